package loadtest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/progress"
	"github.com/paylatch/paylatch/internal/sleep"
)

// Run makes payments of all tenants in turn, reads their status, and measures it.
//
// An open load sends each request at its planned time, whether or not earlier ones have a response,
// as many independent clients do. Its latencies count from the planned time: a service, or a load
// generator, that stalls shows in them. A closed loop goes as fast as the responses come. A service
// that stalls also stalls the loop, and no percentile has the requests that would have come then.
//
// When the load ends, also because ctx does, the requests in flight have cfg.Grace to end.
//
// A refused payment ends the load with an error: all payments are alike. Only a 429 is counted as a
// failure like others. A payment whose key cannot be written to the journal is not sent, and ends
// the load. The report has what was measured until then; its Mode is empty if the load did not
// begin.
func Run(ctx context.Context, tenants []*client.Client, cfg Config) (Report, error) {
	if err := cfg.check(len(tenants)); err != nil {
		return Report{}, err
	}
	l := &load{cfg: cfg, tenants: make([]*tenant, len(tenants))}
	for i, c := range tenants {
		l.tenants[i] = &tenant{client: c, name: c.KeyFingerprint()}
	}
	if err := cfg.Journal.Begin(); err != nil {
		return Report{}, err
	}
	if cfg.Topic != nil {
		// Before the first request: no record of the load can be before where reading begins.
		tracker, err := track(ctx, *cfg.Topic, func(step int, now time.Time, took time.Duration) {
			l.tally.visible(step, now, took)
		})
		if err != nil {
			return Report{}, err
		}
		defer tracker.close()
		l.tracker = tracker
	}
	return l.run(ctx), l.refused()
}

// load is one run.
type load struct {
	cfg     Config
	tenants []*tenant
	start   time.Time
	// accepting ends when no new request may begin.
	accepting context.Context
	stop      context.CancelCauseFunc
	// inFlight ends when the requests in flight must end.
	inFlight context.Context
	claimed  atomic.Int64
	refusal  atomic.Pointer[error]
	tally    *tally
	// tracker is nil if end to end is not measured.
	tracker *tracker
}

// run runs the load from its first request to its report.
func (l *load) run(ctx context.Context) Report {
	var abandon context.CancelFunc
	l.accepting, l.stop = context.WithCancelCause(ctx)
	defer l.stop(nil)
	if l.cfg.Duration > 0 {
		var cancel context.CancelFunc
		l.accepting, cancel = context.WithTimeout(l.accepting, l.cfg.Duration)
		defer cancel()
	}
	l.inFlight, abandon = context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	l.start = time.Now()
	l.tally = newTally(len(l.cfg.Steps), newTimeline(l.start, l.cfg.length()))

	var others sync.WaitGroup
	others.Go(func() { abandonLater(l.accepting, l.inFlight, abandon, cmp.Or(l.cfg.Grace, graceDefault)) })
	others.Go(func() {
		progress.Show(l.inFlight, l.cfg.Progress, func(elapsed time.Duration) string {
			return l.tally.progress(elapsed, l.cfg.length())
		})
	})
	if l.cfg.isOpen() {
		l.runOpen()
	} else {
		l.runClosed()
	}
	elapsed := time.Since(l.start)
	interrupted := ctx.Err() != nil
	l.stop(nil)
	abandon()
	others.Wait()
	return l.report(ctx, elapsed, interrupted)
}

func (l *load) report(ctx context.Context, elapsed time.Duration, interrupted bool) Report {
	var seen *EndToEnd
	if l.tracker != nil {
		// An interrupted load waits too: its payments are on their way.
		ctx := context.WithoutCancel(ctx)
		hide := progress.Start(ctx, l.cfg.Progress, l.tracker.progress)
		seen = l.tracker.settle(ctx, l.cfg.Settle)
		hide()
	}
	r := l.tally.report(l.cfg.Steps, elapsed)
	r.Interrupted = interrupted
	r.describe(l)
	if seen != nil {
		seen.Topic, seen.Latency = l.cfg.Topic.Name, r.whole[kindEndToEnd].summary()
		r.EndToEnd = seen
	}
	return r
}

// abandonLater ends the requests in flight when the grace after the end of the load is over.
func abandonLater(accepting, inFlight context.Context, abandon context.CancelFunc, grace time.Duration) {
	select {
	case <-accepting.Done():
	case <-inFlight.Done():
		return
	}
	if sleep.For(inFlight, grace) == nil {
		abandon()
	}
}

// create makes one payment. Its outcome is counted; the error is for pacing only.
func (l *load) create(t *tenant, step int, planned time.Time, random *rand.Rand) error {
	key, err := client.NewKey()
	if err != nil {
		return l.refuse(err)
	}
	if err := l.cfg.Journal.Sent(t.name, key); err != nil {
		return l.refuse(err)
	}
	ctx, outcomes := observed(l.inFlight)
	result, err := t.client.Create(ctx, key, SampleOf(random, l.cfg.Accounts))
	now := time.Now()
	journalErr := l.cfg.Journal.Ended(key, journal.Outcome{
		ID: result.ID, Replayed: result.Replayed, Attempts: len(*outcomes), First: first(*outcomes), Err: err,
	})
	l.tally.create(step, now, now.Sub(planned), result.Replayed, *outcomes, err)
	if journalErr != nil {
		return l.refuse(journalErr)
	}
	if err != nil {
		if isFinal(err) {
			return l.refuse(err)
		}
		return err
	}
	t.remember(result.ID)
	if l.tracker != nil {
		l.tracker.created(result.ID, step, planned)
	}
	return nil
}

// isFinal reports whether every further payment would be refused too. An UnknownError is no
// refusal.
func isFinal(err error) bool {
	p, ok := err.(*client.ProblemError) //nolint:errorlint // An UnknownError may wrap one.
	return ok && p.Status < http.StatusInternalServerError && p.Status != http.StatusTooManyRequests
}

// status reads one of the tenant's recent payments. It returns found false if there is none yet.
func (l *load) status(t *tenant, step int, planned time.Time, random *rand.Rand) (found bool, err error) {
	id := t.recent(random)
	if id == "" {
		return false, nil
	}
	ctx, outcomes := observed(l.inFlight)
	p, err := t.client.Get(ctx, id)
	if err == nil && p.ID != id {
		err = fmt.Errorf("got payment %s instead of %s", p.ID, id)
	}
	now := time.Now()
	l.tally.status(step, now, now.Sub(planned), *outcomes, err)
	return true, err
}

// refuse ends the load with an error.
func (l *load) refuse(err error) error {
	l.refusal.CompareAndSwap(nil, &err)
	l.stop(err)
	return err
}

func (l *load) refused() error {
	if err := l.refusal.Load(); err != nil {
		return fmt.Errorf("load stopped: %w", *err)
	}
	return nil
}

// observed returns a context with which a call reports the outcomes of its attempts.
func observed(ctx context.Context) (context.Context, *[]string) {
	var outcomes []string
	return client.WithObserver(ctx, func(a client.Attempt) { outcomes = append(outcomes, a.Outcome()) }), &outcomes
}

func first(outcomes []string) string {
	if len(outcomes) == 0 {
		return ""
	}
	return outcomes[0]
}
