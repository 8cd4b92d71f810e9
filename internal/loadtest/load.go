package loadtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
)

const (
	// LoadWorkersMax keeps one machine's client within the ports and descriptors that it usually has.
	LoadWorkersMax = 4096
	// InFlightDefault bears half a second without an answer at the peak of five customers (35 writes and 350 reads per second each).
	InFlightDefault = 1000
	// recentMax is how many of a tenant's payments are read from: the young ones, as clients that wait do.
	recentMax = 64
	// progressEvery is how often the progress line moves.
	progressEvery = 500 * time.Millisecond
	// defaultGrace is the default of client.Config.AttemptTimeout.
	defaultGrace = 5 * time.Second
)

// Config says how much load, and what is kept of it. It ends with its steps, Duration or Count, whichever comes first; one of them is needed.
type Config struct {
	Steps    []Step // an open load: each request is sent when it is due. None: a closed loop
	InFlight int    // open: requests that may be under way at once; an arrival that finds no place is counted and not sent

	Workers  int           // closed: each has one request in flight
	Duration time.Duration // closed; 0: until Count

	Count    int64         // payments to make; 0: no such end
	Reads    int           // status reads for each payment, of the tenant's recent ones
	Accounts int           // how many account holders there are; 0: 10,000
	Grace    time.Duration // for requests in flight, when the load stops; 0: 5 s

	Topic    *journal.Topic   // where the payments become visible; nil: end to end is not measured
	Settle   time.Duration    // how long the payments that are not yet visible are waited for after the load
	Journal  *journal.Journal // of every key and answer; nil: none
	Progress io.Writer        // a terminal that shows how far it is; nil: none
}

func (cfg Config) check(tenants int) error {
	faults := []error{checkSteps(cfg.Steps, cfg.Reads)}
	open := len(cfg.Steps) > 0
	if tenants == 0 {
		faults = append(faults, errors.New("tenants: at least one is needed"))
	}
	if !open && (cfg.Workers < 1 || cfg.Workers > LoadWorkersMax) {
		faults = append(faults, fmt.Errorf("workers: %d is not within 1 and %d", cfg.Workers, LoadWorkersMax))
	}
	if open && (cfg.InFlight < 1 || cfg.InFlight > LoadWorkersMax) {
		faults = append(faults, fmt.Errorf("in flight: %d is not within 1 and %d", cfg.InFlight, LoadWorkersMax))
	}
	if cfg.Duration < 0 || cfg.Count < 0 || cfg.Reads < 0 || cfg.Settle < 0 {
		faults = append(faults, errors.New("duration, count, settle, reads: none may be negative"))
	}
	if cfg.Accounts != 0 && (cfg.Accounts < 2 || cfg.Accounts > AccountsMax) {
		faults = append(faults, fmt.Errorf("accounts: %d is not within 2 and %d", cfg.Accounts, AccountsMax))
	}
	if !open && cfg.Duration == 0 && cfg.Count == 0 {
		faults = append(faults, errors.New("duration or count: one is needed"))
	}
	if open && cfg.Duration > 0 {
		faults = append(faults, errors.New("duration: the steps of an open load have their own"))
	}
	return errors.Join(faults...)
}

// length is how long the load is meant to take, 0 where nobody knows.
func (cfg Config) length() time.Duration {
	if len(cfg.Steps) > 0 {
		return planned(cfg.Steps)
	}
	return cfg.Duration
}

// Load makes payments of all tenants in turn, reads them, and measures it.
//
// An open load (Steps) sends each request when it is due, whether or not earlier ones were answered, as many independent clients do; its latencies
// count from when the request was due, so that a service, or a client, that stalls shows in them. A closed loop (Workers) goes as fast as the answers
// come: a service that stalls also stalls the loop, and the requests that would have come in the meantime are in no percentile.
//
// When it ends, also because ctx does, requests in hand have one more attempt's time, so that a stop leaves no unknown outcomes behind without need. A
// refused payment ends it with an error: all are alike, and a million refusals tell no more than one. Only 429, which a later one need not meet, is
// counted as a failure like all others. Where a journal is kept, a payment whose key cannot be written into it is not sent, and ends the load.
func Run(ctx context.Context, tenants []*client.Client, cfg Config) (Report, error) {
	if err := cfg.check(len(tenants)); err != nil {
		return Report{}, err
	}
	l := &load{cfg: cfg, inTurn: make([]*tenant, len(tenants))}
	for i, c := range tenants {
		l.inTurn[i] = &tenant{client: c, name: c.KeyFingerprint()}
	}
	if err := cfg.Journal.Begin(); err != nil {
		return Report{}, err
	}
	if cfg.Topic == nil {
		return l.run(ctx, cmp.Or(cfg.Grace, defaultGrace)), l.refused()
	}
	// Before the first request, so that no record of the load can be before where reading begins.
	follower, err := follow(ctx, *cfg.Topic, func(step int, now time.Time, took time.Duration) { l.tally.visible(step, now, took) })
	if err != nil {
		return Report{}, err
	}
	defer follower.close()
	l.follower = follower
	return l.run(ctx, cmp.Or(cfg.Grace, defaultGrace)), l.refused()
}

// load is one run.
type load struct {
	cfg      Config
	inTurn   []*tenant
	start    time.Time
	stopping context.Context // over: take on no new work
	stop     context.CancelCauseFunc
	inHand   context.Context // over: drop also the work in hand
	claimed  atomic.Int64
	refusal  atomic.Pointer[error]
	tally    *tally
	follower *follower // nil: end to end is not measured
}

// run is the load from its first request to its report.
func (l *load) run(ctx context.Context, grace time.Duration) Report {
	var abandon context.CancelFunc
	l.stopping, l.stop = context.WithCancelCause(ctx)
	defer l.stop(nil)
	if l.cfg.Duration > 0 {
		var cancel context.CancelFunc
		l.stopping, cancel = context.WithTimeout(l.stopping, l.cfg.Duration)
		defer cancel()
	}
	l.inHand, abandon = context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	l.start = time.Now()
	l.tally = newTally(len(l.cfg.Steps), newTimeline(l.start, l.cfg.length()))

	var others sync.WaitGroup
	others.Go(func() { abandonLater(l.stopping, l.inHand, abandon, grace) })
	others.Go(func() { l.tally.show(l.inHand, l.cfg.Progress, l.start, l.cfg.length()) })
	if len(l.cfg.Steps) > 0 {
		l.open()
	} else {
		l.closed()
	}
	elapsed := time.Since(l.start)
	interrupted := ctx.Err() != nil
	l.stop(nil)
	abandon()
	others.Wait()

	var seen *EndToEnd
	if l.follower != nil {
		// An interrupted load waits too, as long as it may: what it made is under way.
		seen = l.follower.settle(context.WithoutCancel(ctx), l.cfg.Settle)
	}
	r := l.tally.report(l.cfg.Steps, elapsed)
	r.Interrupted = interrupted
	r.describe(l)
	if seen != nil {
		seen.Topic, seen.Latency = l.cfg.Topic.Name, r.whole[endToEnd].summary()
		r.EndToEnd = seen
	}
	return r
}

// abandonLater gives requests in hand their grace once the load stops.
func abandonLater(stopping, inHand context.Context, abandon context.CancelFunc, grace time.Duration) {
	select {
	case <-stopping.Done():
	case <-inHand.Done():
		return
	}
	if sleep(inHand, grace) == nil {
		abandon()
	}
}

// write makes one payment. What it returns is the load's to act upon; all counting is done.
func (l *load) write(t *tenant, step int, due time.Time, random *rand.Rand) error {
	key, err := client.NewKey()
	if err != nil {
		return l.refuse(err)
	}
	if err := l.cfg.Journal.Sent(t.name, key); err != nil {
		return l.refuse(err)
	}
	ctx, outcomes := observed(l.inHand)
	got, err := t.client.Create(ctx, key, SampleOf(random, l.cfg.Accounts))
	now := time.Now()
	journalErr := l.cfg.Journal.Ended(key, journal.Outcome{
		ID: got.ID, Replayed: got.Replayed, Attempts: len(*outcomes), First: first(*outcomes), Err: err,
	})
	l.tally.write(step, now, now.Sub(due), got.Replayed, *outcomes, err)
	if journalErr != nil {
		return l.refuse(journalErr)
	}
	if err != nil {
		if final(err) {
			return l.refuse(err)
		}
		return err
	}
	t.remember(got.ID)
	if l.follower != nil {
		l.follower.answered(got.ID, step, due)
	}
	return nil
}

// final tells whether every further payment would be refused alike. One inside an UnknownError is no refusal.
func final(err error) bool {
	p, ok := err.(*client.ProblemError) //nolint:errorlint // see above
	return ok && p.Status < http.StatusInternalServerError && p.Status != http.StatusTooManyRequests
}

// read asks for one of the tenant's recent payments. found is false when there is none yet.
func (l *load) read(t *tenant, step int, due time.Time, random *rand.Rand) (found bool, err error) {
	id := t.recent(random)
	if id == "" {
		return false, nil
	}
	ctx, outcomes := observed(l.inHand)
	p, err := t.client.Get(ctx, id)
	if err == nil && p.ID != id {
		err = fmt.Errorf("got payment %s for %s", p.ID, id)
	}
	now := time.Now()
	l.tally.read(step, now, now.Sub(due), *outcomes, err)
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

// sleep returns nil after d, or the error of ctx if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
