// Command scale is the scale test of docker-compose.yml: under load from inside its network, replicas go 1 → 4 → 2 → 4, two by kill -9, and one more is
// stopped cleanly. Then everything is drained and audited: by paylatch verify, by Kafka's own console consumer, and by kcat, all read_committed.
//
// It prints one table and one verdict; exit code 0 says that each payment is in the topic exactly once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	partitions = 12 // What `paylatch setup` makes by default.
	// testTimeout bounds everything, images not built before included.
	testTimeout = 15 * time.Minute
)

func main() {
	step := flag.Duration("step", 15*time.Second, "how long the load of each step lasts")
	workers := flag.Int("workers", 16, "requests under way at once")
	keep := flag.Bool("keep", false, "leave the containers running at the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	if err := run(ctx, *step, *workers, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "scale test:", err)
		os.Exit(1)
	}
}

// run is the whole test.
func run(ctx context.Context, step time.Duration, workers int, keep bool) (err error) {
	c := compose{project: "paylatch-scale"}
	if err := c.down(ctx); err != nil { // What an interrupted run may have left.
		return err
	}
	if !keep {
		defer func() { err = errors.Join(err, c.down(context.WithoutCancel(ctx))) }()
	}
	if err := c.scale(ctx, 1); err != nil {
		return err
	}
	t := &test{compose: c, load: loader{compose: c, duration: step, workers: workers}}
	for _, s := range []struct {
		name   string
		change func(context.Context) error // Made when a third of the step's load is over.
	}{
		{"1 replica", nil},
		{"1 to 4", func(ctx context.Context) error { return c.scale(ctx, 4) }},
		{"kill -9 two of 4", t.killTwo},
		{"2 to 4", func(ctx context.Context) error { return c.scale(ctx, 4) }},
		{"stop one of 4", t.stopOne},
	} {
		if err := t.step(ctx, s.name, s.change); err != nil {
			return fmt.Errorf("step %q: %w", s.name, err)
		}
	}
	if err := t.drain(ctx); err != nil {
		return err
	}
	t.print(os.Stdout)
	return t.judge(ctx, os.Stdout)
}

// test is what a run has seen so far.
type test struct {
	compose
	load    loader
	rows    []row
	killed  []string      // Containers ended by kill -9.
	exposed int           // Partitions that these owned: as many batches may have been interrupted.
	took    time.Duration // Until all partitions had an owner again, in this step.
}

// row is a step, as the table shows it.
type row struct {
	name     string
	result   loadResult
	took     time.Duration
	replicas map[string]int64 // Payments sent by each in this step.
}

// step loads, makes the change meanwhile, and measures.
func (t *test) step(ctx context.Context, name string, change func(context.Context) error) error {
	before, err := t.sentBy(ctx)
	if err != nil {
		return err
	}
	t.took = 0
	loaded := make(chan loadResult, 1)
	failed := make(chan error, 1)
	go func() {
		result, err := t.load.run(ctx)
		loaded <- result
		failed <- err
	}()
	if change != nil {
		pause(ctx, t.load.duration/3)
		if err := change(ctx); err != nil {
			return err
		}
	}
	result, err := <-loaded, <-failed
	if err != nil {
		return err
	}
	after, err := t.sentBy(ctx)
	if err != nil {
		return err
	}
	shares := map[string]int64{}
	for replica, sent := range after {
		if earlier := before[replica]; sent >= earlier {
			shares[replica] = sent - earlier
		} else {
			shares[replica] = sent // Started anew since: its counter began at 0.
		}
	}
	t.rows = append(t.rows, row{name, result, t.took, shares})
	return nil
}

// killTwo ends two replicas as a crash does, those that own most, and waits until others own their partitions.
func (t *test) killTwo(ctx context.Context) error {
	names, err := t.running(ctx)
	if err != nil {
		return err
	}
	if len(names) < 3 {
		return fmt.Errorf("%d replicas run, 4 expected", len(names))
	}
	owned, err := t.ownedBy(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(names, func(a, b string) int { return owned[b] - owned[a] })
	began := time.Now()
	for _, name := range names[:2] {
		t.exposed += owned[name]
		t.killed = append(t.killed, name)
		if err := t.kill(ctx, name); err != nil {
			return err
		}
	}
	if t.exposed == 0 {
		return errors.New("the killed replicas owned nothing: the kill proves nothing")
	}
	return t.awaitOwners(ctx, began)
}

// stopOne ends one replica cleanly, and waits until others own its partitions.
func (t *test) stopOne(ctx context.Context) error {
	names, err := t.running(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := t.stop(ctx, names[0]); err != nil {
		return err
	}
	return t.awaitOwners(ctx, began)
}

// awaitOwners waits until every partition has an owner, and notes how long that took.
func (t *test) awaitOwners(ctx context.Context, began time.Time) error {
	for ctx.Err() == nil {
		n, err := t.owned(ctx)
		if err != nil {
			return err
		}
		if n == partitions {
			t.took = time.Since(began)
			return nil
		}
		pause(ctx, 20*time.Millisecond)
	}
	return ctx.Err()
}

// drain waits until nothing is unsent.
func (t *test) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := t.count(ctx, `select count(*) from payments where status = 'created'`)
		if err != nil || n == 0 {
			return err
		}
		pause(ctx, 200*time.Millisecond)
	}
	return ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// shortName is a replica's number within its service.
func shortName(container string) string { return container[strings.LastIndexByte(container, '-')+1:] }
