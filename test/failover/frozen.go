package main

import (
	"context"
	"fmt"
	"time"
)

// unsentPartition is halted in some scenarios, so that payments are stored and not sent when the
// primary is lost: those that are sent come back from the topic.
const unsentPartition = "0"

// haltOne halts unsentPartition. The failover must end with resumeOne.
func (f *failover) haltOne(ctx context.Context) error {
	return f.paylatch(ctx, "partitions", "halt", unsentPartition, "--reason", "failover test")
}

func (f *failover) resumeOne(ctx context.Context) error {
	return f.paylatch(ctx, "partitions", "resume", unsentPartition)
}

// standbyFrozen is since when the standby is frozen, and which rows of this load were visible then.
type standbyFrozen struct {
	from    time.Duration
	visible map[stored]bool
}

// freeze takes the standby away, and waits until that shows.
func (f *failover) freeze(ctx context.Context) (err error) {
	if err := f.haltOne(ctx); err != nil {
		return err
	}
	if err := f.cluster.standby().freeze(ctx); err != nil {
		return err
	}
	f.watcher.reset()
	f.atFreeze.from = f.now()
	f.atFreeze.visible, err = storedSince(ctx, f.cluster.leader(), f.since)
	if err != nil {
		return err
	}
	return waitFor(ctx, "commits wait for the standby, and responses are 503", func() (bool, error) {
		_, waiting, _ := f.watcher.largest()
		return waiting > 0 && f.refused(f.atFreeze.from) > 0, nil
	})
}

// appeared counts the rows that became visible on the primary since the standby was frozen.
func (f *failover) appeared(ctx context.Context) (n int, err error) {
	visible, err := storedSince(ctx, f.cluster.leader(), f.since)
	for row := range visible {
		if !f.atFreeze.visible[row] {
			n++
		}
	}
	return n, err
}

// lose ends the time in which the standby was frozen: the primary is lost, and the standby
// promoted.
func (f *failover) lose(ctx context.Context) error {
	most, waiting, samples := f.watcher.largest()
	f.prove("%d responses 503; up to %d commits in SyncRep; up to %d pooled and %d other backends a replica, "+
		"of %d samples", f.refused(f.atFreeze.from), waiting, most.pooled, most.other, samples)
	if most.pooled > poolMax {
		return fmt.Errorf("a replica had %d pooled backends, its pool has %d: %s", most.pooled, poolMax, f.proof())
	}
	f.away = append(f.away, window{server: -1, from: f.atFreeze.from, to: f.now()})
	if err := f.kill(ctx); err != nil {
		return err
	}
	if err := f.cluster.rebuild(ctx, anyStandby); err != nil {
		return err
	}
	return f.resumeOne(ctx)
}

// kill kills a primary whose standby is behind, and promotes that one. It proves that rows which
// were visible on the primary are not on the standby. What the new primary requires of a standby is
// what the old one did.
func (f *failover) kill(ctx context.Context) error {
	p := f.cluster.leader()
	names, err := one[string](ctx, p, `show synchronous_standby_names`)
	if err != nil {
		return err
	}
	visible, err := storedSince(ctx, p, f.since)
	if err != nil {
		return err
	}
	if err := p.kill(ctx); err != nil {
		return err
	}
	proof, err := f.cluster.promote(ctx, f.timeline, names)
	if err != nil {
		return err
	}
	survived, err := storedSince(ctx, f.cluster.leader(), f.since)
	if err != nil {
		return err
	}
	gone := 0
	for row := range visible {
		if !survived[row] {
			gone++
		}
	}
	f.prove("%s; %d of %d visible rows are not on the new primary", proof, gone, len(visible))
	if gone == 0 {
		return fmt.Errorf("the fault did not show: %s", f.proof())
	}
	return nil
}
