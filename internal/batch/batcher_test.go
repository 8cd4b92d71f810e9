package batch

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

// held is a batcher whose batches wait until the test releases them. It notes the requests of each
// batch.
type held struct {
	*Batcher[int, string]
	release chan struct{}
	mu      sync.Mutex
	batches [][]int
}

// Requests that make the batch fail.
const (
	refused = -1 // These requests make their batch fail.
	away    = -2
	panics  = -3
)

var errRefused = errors.New("refused")

func newHeld(sizeMax, pendingMax int) *held {
	h := &held{release: make(chan struct{})}
	h.Batcher = New(sizeMax, pendingMax, func(_ context.Context, requests []int) ([]string, error) {
		h.mu.Lock()
		h.batches = append(h.batches, slices.Clone(requests))
		h.mu.Unlock()
		<-h.release
		responses := make([]string, len(requests))
		for i, q := range requests {
			switch q {
			case refused:
				return nil, errRefused
			case away:
				return nil, payment.ErrUnavailable
			case panics:
				panic("impossible")
			}
			responses[i] = fmt.Sprint(q)
		}
		return responses, nil
	})
	return h
}

// send starts requests of a tenant, in order, and returns where their outcomes are written.
func (h *held) send(ctx context.Context, tenant int32, requests ...int) (responses []string, errs []error) {
	responses, errs = make([]string, len(requests)), make([]error, len(requests))
	for i, q := range requests {
		go func() { responses[i], errs[i] = h.Do(ctx, tenant, q) }()
		synctest.Wait()
	}
	return responses, errs
}

func (h *held) want(t *testing.T, batches ...[]int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := fmt.Sprint(h.batches); got != fmt.Sprint(batches) {
		t.Errorf("got batches %v, want %v", got, batches)
	}
}

// TestBatcher_Batches: a single request is a batch at once. Requests that arrive while it runs are
// the next batch, in order, and each gets its own response.
func TestBatcher_Batches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 100)
		first, _ := h.send(t.Context(), 1, 10)
		h.want(t, []int{10})
		next, _ := h.send(t.Context(), 1, 11, 12, 13)
		h.want(t, []int{10})
		h.release <- struct{}{}
		synctest.Wait()
		h.want(t, []int{10}, []int{11, 12, 13})
		close(h.release)
		synctest.Wait()
		if got := fmt.Sprint(first, next); got != "[10] [11 12 13]" {
			t.Errorf("responses %s", got)
		}
		if h.pending != 0 || len(h.queues) != 0 || len(h.rotation) != 0 {
			t.Errorf("%d requests, %d queues and %d turns are left, want none", h.pending, len(h.queues),
				len(h.rotation))
		}
	})
}

// TestBatcher_HeldUp: while a batch is slow, waiting requests get a second batch next to it, and no
// third one.
func TestBatcher_HeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 100)
		h.send(t.Context(), 1, 1)
		h.send(t.Context(), 1, 2, 3)
		time.Sleep(slowAfter - time.Nanosecond)
		synctest.Wait()
		h.want(t, []int{1})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		h.want(t, []int{1}, []int{2, 3})
		h.send(t.Context(), 1, 4)
		time.Sleep(10 * slowAfter)
		synctest.Wait()
		h.want(t, []int{1}, []int{2, 3})
		close(h.release)
		synctest.Wait()
		h.want(t, []int{1}, []int{2, 3}, []int{4})
	})
}

// TestBatcher_OneBatchAtATime: batches that follow each other quickly do not count as a slow one,
// however long that goes on. A slow one is noticed within twice slowAfter.
func TestBatcher_OneBatchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(1, 1000)
		h.send(t.Context(), 1, 1, 2, 3, 4, 5, 6)
		want := [][]int{{1}}
		for n := 1; n < 5; n++ {
			time.Sleep(slowAfter * 2 / 3)
			h.release <- struct{}{}
			synctest.Wait()
			want = append(want, []int{n + 1})
			h.want(t, want...)
		}
		time.Sleep(2 * slowAfter)
		synctest.Wait()
		h.want(t, []int{1}, []int{2}, []int{3}, []int{4}, []int{5}, []int{6})
		close(h.release)
	})
}

// TestBatcher_TenantsInRotation: one tenant has ten requests waiting when another sends two. The
// second one does not wait until the ten are done.
func TestBatcher_TenantsInRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(4, 100)
		h.send(t.Context(), 1, 0)
		h.send(t.Context(), 1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
		h.send(t.Context(), 2, 20, 21)
		close(h.release)
		synctest.Wait()
		h.want(t, []int{0}, []int{10, 20, 11, 21}, []int{12, 13, 14, 15}, []int{16, 17, 18, 19})
	})
}

// TestBatcher_Full: beyond the bound a request is refused at once with payment.ErrUnavailable, and
// is never processed. When another one has ended, a request is taken again.
func TestBatcher_Full(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 3)
		h.send(t.Context(), 1, 1, 2, 3)
		if _, err := h.Do(t.Context(), 2, 4); !errors.Is(err, ErrFull) || !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("error %v, want ErrFull", err)
		}
		close(h.release)
		synctest.Wait()
		synctest.Wait()
		if response, err := h.Do(t.Context(), 2, 5); response != "5" || err != nil {
			t.Errorf("%q, %v", response, err)
		}
		h.want(t, []int{1}, []int{2, 3}, []int{5})
	})
}

// TestBatcher_OneIsRefused: the database refuses a batch because of one request. Only that one
// fails; the others are processed.
func TestBatcher_OneIsRefused(t *testing.T) {
	for name, bad := range map[string]int{"Refused": refused, "Panics": panics} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHeld(100, 100)
				h.send(t.Context(), 1, 0)
				responses, errs := h.send(t.Context(), 1, 1, 2, bad, 3)
				close(h.release)
				synctest.Wait()
				if got := fmt.Sprint(responses); got != "[1 2  3]" {
					t.Errorf("responses %s", got)
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

// TestBatcher_Unavailable: the database goes away during a batch, so its outcome is unknown. All
// requests fail with payment.ErrUnavailable, and none is processed again.
func TestBatcher_Unavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 100)
		h.send(t.Context(), 1, 0)
		_, errs := h.send(t.Context(), 1, 1, away, 3)
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

// TestBatcher_CallerLeaves: a request whose caller leaves before a batch takes it is never
// processed, and makes room at once. A batch goes on without a caller that leaves it.
func TestBatcher_CallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(100, 4)
		soon, cancel := context.WithTimeout(t.Context(), slowAfter/2)
		defer cancel()
		_, inBatch := h.send(soon, 1, 1)
		_, waiting := h.send(soon, 1, 2)
		_, alone := h.send(soon, 2, 3)
		stays, _ := h.send(t.Context(), 1, 4)
		<-soon.Done()
		synctest.Wait()
		for _, errs := range [][]error{inBatch, waiting, alone} {
			if !errors.Is(errs[0], payment.ErrUnavailable) {
				t.Errorf("a request whose caller left: %v, want payment.ErrUnavailable", errs[0])
			}
		}
		more, _ := h.send(t.Context(), 3, 5, 6)
		close(h.release)
		synctest.Wait()
		h.want(t, []int{1}, []int{4, 5, 6})
		if got := fmt.Sprint(stays, more); got != "[4] [5 6]" {
			t.Errorf("responses %s", got)
		}
	})
}

// TestBatcher_Close: Close waits for the pending requests, and takes no others.
func TestBatcher_Close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(1, 100)
		responses, _ := h.send(t.Context(), 1, 1, 2)
		closed := make(chan struct{})
		go func() { defer close(closed); h.Close() }()
		synctest.Wait()
		if _, err := h.Do(t.Context(), 1, 3); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
		close(h.release)
		<-closed
		synctest.Wait()
		if got := fmt.Sprint(responses); got != "[1 2]" {
			t.Errorf("responses %s", got)
		}
	})
}

// TestBatcher_ReadyCallersJoin: callers that are ready to run when a batch starts are part of it.
// With one processor, and batches that wait for nothing, each would have a batch of its own
// otherwise.
func TestBatcher_ReadyCallersJoin(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const callers, repetitions = 8, 50
	batches := 0
	b := New(100, 100, func(_ context.Context, requests []int) ([]int, error) {
		batches++
		return requests, nil
	})
	for range repetitions {
		var all sync.WaitGroup
		for n := range callers {
			all.Go(func() {
				if response, err := b.Do(t.Context(), 1, n); response != n || err != nil {
					t.Errorf("request %d: got %d, %v, want its own number", n, response, err)
				}
			})
		}
		all.Wait()
	}
	// Now and then the scheduler lets a batch start early.
	if most := repetitions * 2; batches > most {
		t.Errorf("%d batches for %d times %d callers, want at most %d", batches, repetitions, callers, most)
	}
}
