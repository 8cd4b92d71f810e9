package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

const (
	// roundTimeout bounds each step of a round that does not commit. Callers wait no longer for
	// their responses. A commit has no such bound: see commitOn.
	roundTimeout = 5 * time.Second
	// One round at a time costs least: whoever comes meanwhile shares the next. A round that has
	// lasted longRound, several times what a full one takes, is held up, by a row that another
	// replica's transaction holds or by a connection that went silent; then a second one goes on
	// beside it, up to roundsMax.
	longRound = 50 * time.Millisecond
	roundsMax = 2
)

// What a call is answered that was never begun: nothing was stored.
var (
	errFull   = fmt.Errorf("%w: too many calls wait", payment.ErrUnavailable)
	errClosed = fmt.Errorf("%w: the store is closed", payment.ErrUnavailable)
)

// group has concurrent calls of one kind done together, a round at a time: one statement and one
// commit for all that wait. A round begins as soon as the one before is done, never on a timer, so
// that a call alone waits for nobody; what comes meanwhile makes up the next round. Only while a
// round is held up does another one go on beside it. Tenants take turns, so that one that asks a
// lot waits for itself. Safe for concurrent use.
type group[Q, A any] struct {
	// do answers the questions, in their order, and bounds its own steps. An error is of all of
	// them: nothing was done, or it is not known what.
	do func(ctx context.Context, asked []Q) ([]A, error)
	// Calls in one round.
	roundMax int
	// Calls that wait or are under way; more are refused at once.
	callsMax int

	mu sync.Mutex
	// By tenant; none is empty.
	lines map[int32]*line[Q, A]
	// The same, the one whose turn is next first.
	turns []*line[Q, A]
	calls int
	// Under way.
	rounds int
	// Rounds, in all.
	begun   int
	watched bool
	closed  bool
	// Of the rounds.
	over sync.WaitGroup
}

// line is what waits of one tenant, in order of arrival.
type line[Q, A any] struct{ waiting []*call[Q, A] }

// call is one caller's question and, once done is closed, its answer.
type call[Q, A any] struct {
	tenant int32
	asked  Q
	done   chan struct{}
	answer A
	err    error
}

func newGroup[Q, A any](roundMax, callsMax int, do func(ctx context.Context, asked []Q) ([]A, error)) *group[Q, A] {
	return &group[Q, A]{do: do, roundMax: roundMax, callsMax: callsMax, lines: map[int32]*line[Q, A]{}}
}

// call has the question answered in some round, and waits for it until ctx ends. The round goes on
// without a caller that has left; a question that no round has taken by then is taken back.
func (g *group[Q, A]) call(ctx context.Context, tenant int32, asked Q) (answer A, err error) {
	c := &call[Q, A]{tenant: tenant, asked: asked, done: make(chan struct{})}
	if err := g.enter(c); err != nil {
		return answer, err
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		g.leave(c)
		return answer, translate(ctx.Err())
	}
}

// enter puts a call into its tenant's line, and begins a round if one may begin.
func (g *group[Q, A]) enter(c *call[Q, A]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return errClosed
	case g.calls == g.callsMax:
		return errFull
	}
	g.calls++
	l := g.lines[c.tenant]
	if l == nil {
		l = &line[Q, A]{}
		g.lines[c.tenant] = l
		g.turns = append(g.turns, l)
	}
	l.waiting = append(l.waiting, c)
	switch {
	case g.rounds == 0:
		g.begin()
	case g.rounds < roundsMax && !g.watched:
		g.watch()
	}
	return nil
}

// begin begins to make rounds. With mu.
func (g *group[Q, A]) begin() {
	g.rounds++
	g.over.Go(g.run)
}

// watch begins to make rounds beside the one under way if that is still the last one that has begun
// when longRound is over and calls wait. With mu.
func (g *group[Q, A]) watch() {
	g.watched = true
	begun := g.begun
	time.AfterFunc(longRound, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.watched = false
		switch {
		case len(g.turns) == 0 || g.rounds == roundsMax:
		case g.begun == begun:
			g.begin()
		default:
			g.watch()
		}
	})
}

// leave takes a call back that no round has taken.
func (g *group[Q, A]) leave(c *call[Q, A]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lines[c.tenant]
	if l == nil {
		return
	}
	if i := slices.Index(l.waiting, c); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		g.calls--
		if len(l.waiting) == 0 {
			g.turns = slices.DeleteFunc(g.turns, func(other *line[Q, A]) bool { return other == l })
			delete(g.lines, c.tenant)
		}
	}
}

// run makes rounds until nobody waits. Before each, whoever is ready to run may do so: that costs
// nothing when there is nobody, and on a busy machine it is those whose answers have just come and
// those whose questions have just arrived. A round that began before them would be smaller, and
// rounds, not questions, are what costs.
func (g *group[Q, A]) run() {
	var taken []*call[Q, A]
	for {
		runtime.Gosched()
		taken = g.take(taken)
		if len(taken) == 0 {
			return
		}
		g.answer(context.Background(), taken)
	}
}

// take ends the round of the calls in done, and takes one call of each tenant in turn, and again,
// for the next one. With none left the round is over.
func (g *group[Q, A]) take(done []*call[Q, A]) []*call[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls -= len(done)
	taken := done[:0]
	for len(taken) < g.roundMax && len(g.turns) > 0 {
		l := g.turns[0]
		c := l.waiting[0]
		taken = append(taken, c)
		g.turns, l.waiting = g.turns[1:], l.waiting[1:]
		if len(l.waiting) > 0 {
			g.turns = append(g.turns, l)
		} else {
			delete(g.lines, c.tenant)
		}
	}
	if len(taken) == 0 {
		g.rounds--
	} else {
		g.begun++
	}
	return taken
}

// answer does a round. One that the database refuses is done in halves, down to the call at fault,
// so that no other one suffers from it: what is refused has changed nothing.
func (g *group[Q, A]) answer(ctx context.Context, calls []*call[Q, A]) {
	asked := make([]Q, len(calls))
	for i, c := range calls {
		asked[i] = c.asked
	}
	answers, err := g.guarded(ctx, asked)
	if refused := err != nil && !errors.Is(err, payment.ErrUnavailable); refused && len(calls) > 1 {
		g.answer(ctx, calls[:len(calls)/2])
		g.answer(ctx, calls[len(calls)/2:])
		return
	}
	for i, c := range calls {
		if c.err = err; err == nil {
			c.answer = answers[i]
		}
		close(c.done)
	}
}

// guarded does a round; a panic in it is an error of the call at fault, and no end of the process.
func (g *group[Q, A]) guarded(ctx context.Context, asked []Q) (answers []A, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return g.do(ctx, asked)
}

// close refuses further calls and waits for those that are there.
func (g *group[Q, A]) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.over.Wait()
}
