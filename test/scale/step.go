package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/loadtest"
	"github.com/paylatch/paylatch/test/harness"
)

// test is what a run has seen so far.
type test struct {
	compose
	cluster *cluster
	load    *loader
	length  time.Duration // Of a step, at least.
	rows    []row
	proofs  []string      // What has happened, as the end of the test prints it.
	took    time.Duration // Until all partitions had an owner again, in this step.
	stops   balancerStats // While replicas stopped, in this step.
}

// step is one change under load.
type step struct {
	name    string
	change  func(context.Context) error // Nil: load only.
	killing bool                        // Replicas end without a chance to respond.
}

// row is a step, as the table shows it.
type row struct {
	step
	load     loadtest.Report
	took     time.Duration
	balancer balancerStats    // In this step.
	stops    balancerStats    // Of these, while replicas stopped and none started.
	sent     map[string]int64 // Payments sent by each replica in this step.
}

// proved notes for the end of the test that something has happened.
func (t *test) proved(format string, args ...any) {
	t.proofs = append(t.proofs, fmt.Sprintf(format, args...))
}

// step starts the load, makes the change after a third of the step, and ends the load a third of a
// step after that.
func (t *test) step(ctx context.Context, s step) error {
	before, err := t.replicas(ctx)
	if err != nil {
		return err
	}
	balancer, err := t.balancer(ctx)
	if err != nil {
		return err
	}
	t.took, t.stops = 0, balancerStats{}
	began := time.Now()
	end := t.load.start(ctx)
	harness.Pause(ctx, t.length/3)
	if s.change != nil {
		err = s.change(ctx)
	}
	if err == nil {
		harness.Pause(ctx, max(t.length/3, t.length-time.Since(began)))
	}
	report, loadErr := end()
	if err := errors.Join(err, loadErr); err != nil {
		return err
	}
	after, err := t.replicas(ctx)
	if err != nil {
		return err
	}
	now, err := t.balancer(ctx)
	if err != nil {
		return err
	}
	done := row{s, report, t.took, now.minus(balancer), t.stops, sentSince(before, after)}
	done.print(os.Stdout)
	t.rows = append(t.rows, done)
	return nil
}

// sentSince counts what each replica has sent. The counter of one that was started again began at
// 0.
func sentSince(before, after []replica) map[string]int64 {
	sent := map[string]int64{}
	for _, now := range after {
		sent[now.name] = now.sent
		i := slices.IndexFunc(before, func(r replica) bool { return r.id == now.id && r.started == now.started })
		if i >= 0 {
			sent[now.name] -= before[i].sent
		}
	}
	return sent
}

// scaleUp brings the replicas to 4, as a user does, and checks that those that run go on.
func (t *test) scaleUp(ctx context.Context, args ...string) error {
	before, err := t.running(ctx)
	if err != nil {
		return err
	}
	if err := t.up(ctx, replicas, args...); err != nil {
		return err
	}
	after, err := t.running(ctx)
	if err != nil {
		return err
	}
	if err := kept(before, after); err != nil {
		return err
	}
	t.proved("%d replicas went on, untouched, when docker compose up made them %d", len(before), len(after))
	return nil
}

// kept checks that all replicas are there, and that those that ran before were neither recreated
// nor restarted.
func kept(before, after []container) error {
	var faults []error
	if len(after) != replicas {
		faults = append(faults, fmt.Errorf("%d replicas run, want %d", len(after), replicas))
	}
	for _, c := range before {
		if !slices.Contains(after, c) {
			faults = append(faults, fmt.Errorf("%s was recreated or restarted", c.name))
		}
	}
	return errors.Join(faults...)
}

// killTwo ends two replicas as a crash does, those that own most, and waits until others own their
// partitions.
func (t *test) killTwo(ctx context.Context) error {
	list, err := t.replicas(ctx)
	if err != nil {
		return err
	}
	if len(list) != replicas {
		return fmt.Errorf("%d replicas run, want %d", len(list), replicas)
	}
	slices.SortFunc(list, func(a, b replica) int { return b.owned - a.owned })
	exposed := 0 // As many batches may have been interrupted.
	var names []string
	began := time.Now()
	for _, r := range list[:2] {
		exposed += r.owned
		names = append(names, r.name)
		if err := t.kill(ctx, r.name); err != nil {
			return err
		}
	}
	if exposed == 0 {
		return errors.New("the killed replicas owned nothing: the kill proves nothing")
	}
	t.proved("%s were killed with -9, which owned %d partitions", strings.Join(names, " and "), exposed)
	return t.awaitOwners(ctx, began, list[2:])
}

// stopOne ends one replica cleanly, and waits until others own its partitions.
func (t *test) stopOne(ctx context.Context) error {
	list, err := t.replicas(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := t.stopCleanly(ctx, list[0].name); err != nil {
		return err
	}
	return t.awaitOwners(ctx, began, list[1:])
}

// noticeTime is how long the balancer's counters are watched after a replica has ended. A balancer
// that has not noticed yet sends it many requests in that time.
const noticeTime = time.Second

// stopCleanly stops one replica, and notes what the balancer met. A replica that starts may refuse
// a connection; one that stops may not, since the balancer has stopped using it by then.
func (t *test) stopCleanly(ctx context.Context, name string) error {
	before, err := t.balancer(ctx)
	if err != nil {
		return err
	}
	if err := t.stop(ctx, name); err != nil {
		return err
	}
	harness.Pause(ctx, noticeTime)
	after, err := t.balancer(ctx)
	t.stops = t.stops.plus(after.minus(before))
	return err
}

// awaitOwners waits until the replicas own all partitions, and notes how long that took.
func (t *test) awaitOwners(ctx context.Context, began time.Time, list []replica) error {
	return harness.Eventually(ctx, stepMax, "the replicas own all partitions", func(ctx context.Context) error {
		owned := 0
		for _, r := range list {
			now, err := t.measure(ctx, r.container)
			if err != nil {
				return harness.Permanent(err)
			}
			owned += now.owned
		}
		t.took = time.Since(began)
		return harness.Holds(owned == partitions, nil)
	})
}

// drain waits until nothing is unsent.
func (t *test) drain(ctx context.Context) error {
	return harness.Eventually(ctx, stepMax, "all payments are sent", func(ctx context.Context) error {
		n, err := t.count(ctx, `select count(*) from payments where status = 'created'`)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d payments are unsent", n)
		}
		return err
	})
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// shortName is a replica's number within its service.
func shortName(container string) string { return container[strings.LastIndexByte(container, '-')+1:] }
