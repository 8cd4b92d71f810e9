package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// held is a group whose rounds wait until the test lets them go, and the questions of each round so
// far.
type held struct {
	*group[int, string]
	release chan struct{}
	mu      sync.Mutex
	rounds  [][]int
}

const (
	refused = -1 // Questions that do has trouble with.
	away    = -2
	panics  = -3
)

var errRefused = errors.New("refused")

func newHeld(roundMax, callsMax int) *held {
	h := &held{release: make(chan struct{})}
	h.group = newGroup(roundMax, callsMax, func(_ context.Context, asked []int) ([]string, error) {
		h.mu.Lock()
		h.rounds = append(h.rounds, slices.Clone(asked))
		h.mu.Unlock()
		<-h.release
		answers := make([]string, len(asked))
		for i, q := range asked {
			switch q {
			case refused:
				return nil, errRefused
			case away:
				return nil, payment.ErrUnavailable
			case panics:
				panic("impossible")
			}
			answers[i] = fmt.Sprint(q)
		}
		return answers, nil
	})
	return h
}

// ask makes calls of a tenant, in order, and returns where their outcomes will be.
func (h *held) ask(ctx context.Context, tenant int32, questions ...int) (answers []string, errs []error) {
	answers, errs = make([]string, len(questions)), make([]error, len(questions))
	for i, q := range questions {
		go func() { answers[i], errs[i] = h.call(ctx, tenant, q) }()
		synctest.Wait()
	}
	return answers, errs
}

func (h *held) want(t *testing.T, rounds ...[]int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := fmt.Sprint(h.rounds); got != fmt.Sprint(rounds) {
		t.Errorf("the rounds were %v, want %v", got, rounds)
	}
}

// TestGroup_Rounds: a call alone is a round at once; what comes while that is under way is the next
// one, in order, and has its own answers.
func TestGroup_Rounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 100)
		first, _ := h.ask(t.Context(), 1, 10)
		h.want(t, []int{10})
		next, _ := h.ask(t.Context(), 1, 11, 12, 13)
		h.want(t, []int{10})
		h.release <- struct{}{}
		synctest.Wait()
		h.want(t, []int{10}, []int{11, 12, 13})
		close(h.release)
		synctest.Wait()
		if got := fmt.Sprint(first, next); got != "[10] [11 12 13]" {
			t.Errorf("answers %s", got)
		}
		if h.calls != 0 || len(h.lines) != 0 || len(h.turns) != 0 {
			t.Errorf("%d calls, %d lines and %d turns are left over", h.calls, len(h.lines), len(h.turns))
		}
	})
}

// TestGroup_HeldUp: calls that wait for a round that lasts long have a second one beside it, and no
// third.
func TestGroup_HeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 100)
		h.ask(t.Context(), 1, 1)
		h.ask(t.Context(), 1, 2, 3)
		time.Sleep(longRound - time.Nanosecond)
		synctest.Wait()
		h.want(t, []int{1})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		h.want(t, []int{1}, []int{2, 3})
		h.ask(t.Context(), 1, 4)
		time.Sleep(10 * longRound)
		synctest.Wait()
		h.want(t, []int{1}, []int{2, 3})
		close(h.release)
		synctest.Wait()
		h.want(t, []int{1}, []int{2, 3}, []int{4})
	})
}

// TestGroup_OneRoundAtATime: rounds that follow each other quickly are none that lasts long,
// however long that goes on; one of them that does is noticed within twice longRound.
func TestGroup_OneRoundAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(1, 1000)
		h.ask(t.Context(), 1, 1, 2, 3, 4, 5, 6)
		want := [][]int{{1}}
		for n := 1; n < 5; n++ {
			time.Sleep(longRound * 2 / 3)
			h.release <- struct{}{}
			synctest.Wait()
			want = append(want, []int{n + 1})
			h.want(t, want...)
		}
		time.Sleep(2 * longRound)
		synctest.Wait()
		h.want(t, []int{1}, []int{2}, []int{3}, []int{4}, []int{5}, []int{6})
		close(h.release)
	})
}

// TestGroup_TenantsTakeTurns: one tenant has ten calls waiting when another comes with two. The
// other does not wait until the ten are done.
func TestGroup_TenantsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(4, 100)
		h.ask(t.Context(), 1, 0)
		h.ask(t.Context(), 1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
		h.ask(t.Context(), 2, 20, 21)
		close(h.release)
		synctest.Wait()
		h.want(t, []int{0}, []int{10, 20, 11, 21}, []int{12, 13, 14, 15}, []int{16, 17, 18, 19})
	})
}

// TestGroup_Full: beyond the bound a call is refused at once, as "not now", and is never asked;
// when there is room again it is taken.
func TestGroup_Full(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 3)
		h.ask(t.Context(), 1, 1, 2, 3)
		if _, err := h.call(t.Context(), 2, 4); !errors.Is(err, errFull) || !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("error %v, want errFull", err)
		}
		close(h.release)
		synctest.Wait()
		synctest.Wait()
		if answer, err := h.call(t.Context(), 2, 5); answer != "5" || err != nil {
			t.Errorf("%q, %v", answer, err)
		}
		h.want(t, []int{1}, []int{2, 3}, []int{5})
	})
}

// TestGroup_OneIsRefused: the database refuses a round for what is wrong with one call. The others
// are done; it alone is told.
func TestGroup_OneIsRefused(t *testing.T) {
	for name, bad := range map[string]int{"Refused": refused, "Panics": panics} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHeld(100, 100)
				h.ask(t.Context(), 1, 0)
				answers, errs := h.ask(t.Context(), 1, 1, 2, bad, 3)
				close(h.release)
				synctest.Wait()
				if got := fmt.Sprint(answers); got != "[1 2  3]" {
					t.Errorf("answers %s", got)
				}
				for i, err := range errs {
					if (err != nil) != (i == 2) || errors.Is(err, payment.ErrUnavailable) {
						t.Errorf("call %d: %v", i, err)
					}
				}
				h.want(t, []int{0}, []int{1, 2, bad, 3}, []int{1, 2}, []int{bad, 3}, []int{bad}, []int{3})
			})
		})
	}
}

// TestGroup_Unavailable: the database went away in mid round, and nobody knows what it has done.
// All are told so, and nothing is done again.
func TestGroup_Unavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 100)
		h.ask(t.Context(), 1, 0)
		_, errs := h.ask(t.Context(), 1, 1, away, 3)
		close(h.release)
		synctest.Wait()
		for i, err := range errs {
			if !errors.Is(err, payment.ErrUnavailable) {
				t.Errorf("call %d: %v", i, err)
			}
		}
		h.want(t, []int{0}, []int{1, away, 3})
	})
}

// TestGroup_CallerLeaves: one whose question no round has taken is never asked, and its place is
// free at once; a round goes on without one that leaves it.
func TestGroup_CallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 4)
		soon, cancel := context.WithTimeout(t.Context(), longRound/2)
		defer cancel()
		_, inRound := h.ask(soon, 1, 1)
		_, waiting := h.ask(soon, 1, 2)
		_, alone := h.ask(soon, 2, 3)
		stays, _ := h.ask(t.Context(), 1, 4)
		<-soon.Done()
		synctest.Wait()
		for _, errs := range [][]error{inRound, waiting, alone} {
			if !errors.Is(errs[0], payment.ErrUnavailable) {
				t.Errorf("one that left was told %v", errs[0])
			}
		}
		more, _ := h.ask(t.Context(), 3, 5, 6)
		close(h.release)
		synctest.Wait()
		h.want(t, []int{1}, []int{4, 5, 6})
		if got := fmt.Sprint(stays, more); got != "[4] [5 6]" {
			t.Errorf("answers %s", got)
		}
	})
}

// TestGroup_Close waits for what is there, and takes nothing more.
func TestGroup_Close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(1, 100)
		answers, _ := h.ask(t.Context(), 1, 1, 2)
		closed := make(chan struct{})
		go func() { defer close(closed); h.close() }()
		synctest.Wait()
		if _, err := h.call(t.Context(), 1, 3); !errors.Is(err, errClosed) {
			t.Errorf("error %v, want errClosed", err)
		}
		close(h.release)
		<-closed
		synctest.Wait()
		if got := fmt.Sprint(answers); got != "[1 2]" {
			t.Errorf("answers %s", got)
		}
	})
}

// TestGroup_WhoeverIsReadyIsInTheRound: callers that are ready to run when a round begins are part
// of it. With one processor, and no round that waits for anything, each would have a round of its
// own otherwise.
func TestGroup_WhoeverIsReadyIsInTheRound(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const callers, repetitions = 8, 50
	rounds := 0
	g := newGroup(100, 100, func(_ context.Context, asked []int) ([]int, error) {
		rounds++
		return asked, nil
	})
	for range repetitions {
		var all sync.WaitGroup
		for n := range callers {
			all.Go(func() {
				if answer, err := g.call(t.Context(), 1, n); answer != n || err != nil {
					t.Errorf("%d was answered %d, %v", n, answer, err)
				}
			})
		}
		all.Wait()
	}
	// A scheduler that looks after all now and then lets a round begin early. It is the exception.
	if most := repetitions * 2; rounds > most {
		t.Errorf("%d rounds for %d times %d callers, want at most %d", rounds, repetitions, callers, most)
	}
}
