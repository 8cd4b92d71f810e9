package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/paylatch/paylatch/test/harness"
)

// promise is what must hold after a failover.
type promise uint8

const (
	// promiseAll: no payment that a client knows is lost, and no response came too early.
	promiseAll promise = iota
	// promiseSent: payments that a client knows as `sent` come back from the topic. Others may be
	// lost, and some must be: otherwise the run shows nothing.
	promiseSent
	// promiseNone is the control: payments must be lost, and the verdict must find that.
	promiseNone
)

// scenario is a kind of failover.
type scenario struct {
	name    string
	promise promise
	fail    func(*failover, context.Context) error
}

// The kinds of failover. Those with a synchronous standby take turns; the others come once, at the
// end.
var (
	synchronous = []scenario{
		{"kill -9", promiseAll, (*failover).crash},
		{"standby frozen", promiseAll, (*failover).frozen},
		{"switchover", promiseAll, (*failover).switchover},
		{"primary restarted", promiseAll, (*failover).restarted},
		{"split brain", promiseAll, (*failover).split},
	}
	others = []scenario{
		{"asynchronous", promiseSent, (*failover).asynchronous},
		{"control: local", promiseNone, (*failover).control},
	}
)

const (
	// failoverTimeout bounds one failover with its load, retries and queries, without --away.
	failoverTimeout = 8 * time.Minute
	// proofTimeout bounds the wait for a fault to show.
	proofTimeout = time.Minute
	// drainTimeout bounds the sending of what is left.
	drainTimeout = 2 * time.Minute
)

// failover is one failover under load, and what was seen of it.
type failover struct {
	*stage
	scenario
	number   int
	first    bool // Of its kind.
	load     *load
	timeline string    // Before the failover.
	since    time.Time // Of the primary, when the load began.
	atFreeze standbyFrozen
	away     []window
	proofs   []string
	took     time.Duration
}

// run makes a failover under load. Then each payment gets its
// response, is sent, and is queried.
func (f *failover) run(ctx context.Context) (err error) {
	began := time.Now()
	defer func() { f.took = time.Since(began) }()
	ctx, cancel := context.WithTimeout(ctx, f.options.away+failoverTimeout)
	defer cancel()
	urls, byHost := f.servers()
	f.load, err = newLoad(fmt.Sprintf("%s-%d", f.prefix, f.number), urls, byHost, f.apiKey, f.promise == promiseAll)
	if err != nil {
		return err
	}
	defer f.load.close()
	f.timeline, err = f.cluster.leader().timeline(ctx)
	if err != nil {
		return err
	}
	f.since, err = one[time.Time](ctx, f.cluster.leader(), `select clock_timestamp()`)
	if err != nil {
		return err
	}
	f.watcher.reset()
	stop, loaded := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(loaded)
		f.load.run(ctx, stop, f.rate)
	}()
	harness.Pause(ctx, calm)
	err = waitFor(ctx, "payments are taken before it",
		func() (bool, error) { return f.taken(-1, 0) >= warmUpMin, nil })
	if err == nil {
		err = f.fail(f, ctx)
	}
	harness.Pause(ctx, calm)
	close(stop)
	<-loaded
	err = errors.Join(err, ctx.Err())
	if err != nil {
		return err
	}
	if err := f.load.settle(ctx); err != nil {
		return err
	}
	if err := f.drain(ctx); err != nil {
		return err
	}
	return f.load.probe(ctx)
}

// prove notes what shows that the fault happened.
func (f *failover) prove(format string, args ...any) {
	f.proofs = append(f.proofs, fmt.Sprintf(format, args...))
}

func (f *failover) proof() string { return strings.Join(f.proofs, "; ") }

// now returns the time of the load.
func (f *failover) now() time.Duration { return time.Since(f.load.began) }

// refused counts the responses 503 to requests that began since then.
func (f *failover) refused(since time.Duration) int {
	return f.load.count(func(r response) bool { return r.code == http.StatusServiceUnavailable && r.began >= since })
}

// taken counts the responses 202 to requests that began since then, but for those of one replica.
func (f *failover) taken(but int8, since time.Duration) int {
	return f.load.count(func(r response) bool {
		return r.code == http.StatusAccepted && r.server != but && r.began >= since
	})
}

// waitFor waits until something shows, and returns an error if it does not within proofTimeout.
func waitFor(ctx context.Context, what string, shows func() (bool, error)) error {
	return harness.Eventually(ctx, proofTimeout, "the fault shows: "+what,
		func(context.Context) error { return harness.Holds(shows()) })
}

// promote promotes the standby, and rebuilds the old primary as its standby. Alone says whether
// commits wait until that is there.
func (f *failover) promote(ctx context.Context, alone string) error {
	proof, err := f.cluster.promote(ctx, f.timeline, alone)
	if err != nil {
		return err
	}
	f.prove("%s", proof)
	return f.cluster.rebuild(ctx, anyStandby)
}

const (
	selectDrained = `select not exists (select from payments where status = 'created')`
	selectHalted  = `select coalesce(string_agg(partition || ': ' || reason, '; '), '') from topic_partitions
		where state = 'halted'`
)

// drain waits until every payment is sent. A halted partition is an error: after a failover no
// scenario has a reason for one.
func (f *failover) drain(ctx context.Context) error {
	return harness.Eventually(ctx, drainTimeout, "all payments are sent", func(ctx context.Context) error {
		halted, err := one[string](ctx, f.cluster.leader(), selectHalted)
		if err != nil {
			return err
		}
		if halted != "" {
			return harness.Permanent(fmt.Errorf("halted partitions: %s", halted))
		}
		return harness.Holds(one[bool](ctx, f.cluster.leader(), selectDrained))
	})
}
