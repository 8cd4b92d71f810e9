package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/paylatch/paylatch/test/harness"
)

const (
	// calm is how long the load runs before a fault, and after the failover.
	calm = 3 * time.Second
	// frozenFor is longer than two attempts of a client. The first time it is --away instead.
	frozenFor = 2 * attemptTimeout
	// splitFor is longer than that, and than the time-outs of a sender.
	splitFor = 16 * time.Second
	// behindFor is how long an asynchronous standby, or that of the control, is behind.
	behindFor = 6 * time.Second
)

// crash kills the primary and promotes the standby. The new primary works alone until it has a
// standby again, as under a cluster manager that is not strict.
func (f *failover) crash(ctx context.Context) error {
	if err := f.cluster.leader().kill(ctx); err != nil {
		return err
	}
	return f.promote(ctx, noStandby)
}

// switchover shuts the primary down and promotes the standby.
func (f *failover) switchover(ctx context.Context) error {
	if err := f.cluster.leader().shutDown(ctx); err != nil {
		return err
	}
	f.prove("fast shutdown")
	return f.promote(ctx, anyStandby)
}

// frozen freezes the standby for a while, in which no create may succeed and every response must be
// 503. Half of that time in, an operator cancels all waits: PostgreSQL then makes rows visible that
// no standby has. Then the primary is lost.
func (f *failover) frozen(ctx context.Context) error {
	length := frozenFor
	if f.first {
		length = f.options.away
	}
	if err := f.freeze(ctx); err != nil {
		return err
	}
	harness.Pause(ctx, length/2)
	before, err := f.appeared(ctx)
	if err != nil {
		return err
	}
	cancelled, err := one[int64](ctx, f.cluster.leader(), cancelWaits)
	if err != nil {
		return err
	}
	after := 0
	err = waitFor(ctx, "rows are visible after pg_cancel_backend", func() (_ bool, err error) {
		after, err = f.appeared(ctx)
		return after > 0, err
	})
	if err != nil {
		return err
	}
	f.prove("%d rows became visible without the standby, %d after %d pg_cancel_backend", before, after, cancelled)
	harness.Pause(ctx, length/2)
	return f.lose(ctx)
}

// restarted freezes the standby, and restarts the primary while commits wait. Its recovery makes
// their rows visible, though no standby has them. Then the primary is lost.
func (f *failover) restarted(ctx context.Context) error {
	p := f.cluster.leader()
	if err := f.freeze(ctx); err != nil {
		return err
	}
	before, err := f.appeared(ctx)
	if err != nil {
		return err
	}
	if err := p.kill(ctx); err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	after, err := f.appeared(ctx)
	if err != nil {
		return err
	}
	f.prove("%d rows became visible without the standby, %d after the restart", before, after)
	if after == 0 {
		return fmt.Errorf("the fault did not show: %s", f.proof())
	}
	harness.Pause(ctx, frozenFor)
	return f.lose(ctx)
}

// split isolates the primary from its standby. The first replica reaches only the old primary, the
// others only the standby, which is promoted. Then the old primary is lost.
func (f *failover) split(ctx context.Context) error {
	old, promoted := f.cluster.primary, 1-f.cluster.primary
	if err := f.cluster.standby().detach(ctx); err != nil {
		return err
	}
	from := f.now()
	for i, r := range f.replicas {
		unreachable := old
		if i == 0 {
			unreachable = promoted
		}
		if err := r.links[unreachable].Cut(); err != nil {
			return err
		}
	}
	proof, err := f.cluster.promote(ctx, f.timeline, noStandby)
	if err != nil {
		return err
	}
	f.prove("%s", proof)
	harness.Pause(ctx, splitFor)
	if err := f.proveSplit(old, promoted, from); err != nil {
		return err
	}
	f.away = append(f.away, window{server: 0, from: from, to: f.now()})
	if err := f.cluster.nodes[old].kill(ctx); err != nil {
		return err
	}
	for _, r := range f.replicas {
		if err := errors.Join(r.links[old].Mend(), r.links[promoted].Mend()); err != nil {
			return err
		}
	}
	return f.cluster.rebuild(ctx, anyStandby)
}

// proveSplit shows that both primaries were in use. Sessions of the other replicas remain on the
// old primary as long as their commits wait.
func (f *failover) proveSplit(old, promoted int, from time.Duration) error {
	onOld, onNew := f.watcher.on(old), f.watcher.on(promoted)
	isolated := onOld[roleOf(0)]
	refused := f.load.count(func(r response) bool {
		return r.server == 0 && r.code == http.StatusServiceUnavailable && r.began >= from
	})
	taken := f.taken(0, from)
	f.prove("replica0 had %d sessions on the old primary and gave %d responses 503, the others %d responses 202",
		isolated.pooled+isolated.other, refused, taken)
	_, alsoNew := onNew[roleOf(0)]
	if isolated.pooled == 0 || alsoNew || len(onNew) != len(f.replicas)-1 || refused == 0 || taken == 0 {
		return fmt.Errorf("the fault did not show: %s; sessions on the old primary %v, on the new one %v",
			f.proof(), onOld, onNew)
	}
	return nil
}

// asynchronous has commits not wait for the standby, and takes the standby away. One partition is
// halted, so that some payments are taken and not sent. Then the primary is lost.
func (f *failover) asynchronous(ctx context.Context) error {
	if err := f.cluster.wait(ctx, noStandby); err != nil {
		return err
	}
	if err := f.cluster.standby().detach(ctx); err != nil {
		return err
	}
	if err := f.haltOne(ctx); err != nil { // The standby does not know.
		return err
	}
	harness.Pause(ctx, behindFor)
	if err := f.kill(ctx); err != nil {
		return err
	}
	return f.cluster.rebuild(ctx, noStandby)
}

// control has creates commit without the standby, which is frozen: the failover must lose them, and
// the verdict must find that.
func (f *failover) control(ctx context.Context) error {
	p := f.cluster.leader()
	if err := f.cluster.wait(ctx, anyStandby); err != nil {
		return err
	}
	if err := p.exec(ctx, commitLocally); err != nil {
		return err
	}
	if err := f.cluster.standby().freeze(ctx); err != nil {
		return err
	}
	harness.Pause(ctx, behindFor)
	if err := f.kill(ctx); err != nil {
		return err
	}
	if err := f.cluster.rebuild(ctx, anyStandby); err != nil {
		return err
	}
	return f.cluster.leader().exec(ctx, dropCommitLocally)
}
