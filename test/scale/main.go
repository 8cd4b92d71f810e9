// Command scale is the scale test of docker-compose.yml, under load through its balancer:
//
//   - replicas go 1 → 4 → 2 → 4, two of them by kill -9, and one more is stopped cleanly
//   - one of three Kafka brokers is killed with -9, and comes back
//   - all replicas are replaced, one by one, by a version whose schema is one version ahead, and
//     back
//
// Then everything is drained and audited: by paylatch verify, by Kafka's own console consumer and
// by kcat, all read_committed, and by payclient audit from the client's journal.
//
// It prints one table and one verdict. Exit code 0 means: each payment is in the topic exactly
// once, no first attempt failed with anything but 503 and Retry-After, no request failed after its
// retries, and each fault has happened.
//
// With --drain-delay 0s it is its own control: the replicas that stop leave requests without a
// response, which must be found.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	partitions = 12 // What `paylatch setup` makes by default.
	replicas   = 4
	// testTimeout bounds everything, with images that were not built before.
	testTimeout = 20 * time.Minute
	// finishTimeout bounds what is done after that, or after an interrupt: logs are saved and
	// containers removed.
	finishTimeout = 2 * time.Minute
)

func main() {
	step := flag.Duration("step", 15*time.Second, "how long the load of each step lasts at least")
	workers := flag.Int("workers", 16, "requests under way at once")
	count := flag.Int("brokers", 3, "3, or 1 for the steps that need no more")
	drain := flag.String("drain-delay", "5s", "set PAYLATCH_DRAIN_DELAY of the replicas; 0s is the control, "+
		"which must fail")
	keep := flag.Bool("keep", false, "leave the containers and the client's journal at the end")
	flag.Parse()
	if *count != 1 && *count != len(kafkaPorts) {
		fmt.Fprintln(os.Stderr, "scale test: --brokers is 1 or", len(kafkaPorts))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	c := compose{project: "paylatch-scale", brokers: *count, drainDelay: *drain}
	if err := run(ctx, c, *step, *workers, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "scale test:", err)
		os.Exit(1)
	}
}

// run is the whole test.
func run(ctx context.Context, c compose, length time.Duration, workers int, keep bool) (err error) {
	if err := c.down(ctx); err != nil { // What an interrupted run may have left.
		return err
	}
	defer func() { err = errors.Join(err, c.finish(err != nil, keep)) }()
	if err := c.up(ctx, 1, "--build"); err != nil {
		return err
	}
	t := &test{compose: c, length: length}
	t.load, err = newLoader(workers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.load.close(keep || err != nil)) }()
	t.cluster, err = newCluster(c.brokers)
	if err != nil {
		return err
	}
	defer t.cluster.client.Close()
	if err := t.cluster.prepare(ctx); err != nil {
		return err
	}
	printHead(os.Stdout)
	if err := t.steps(ctx); err != nil {
		return err
	}
	if err := t.drain(ctx); err != nil {
		return err
	}
	return t.judge(ctx, os.Stdout)
}

// steps makes all changes, each under a load of its own.
func (t *test) steps(ctx context.Context) error {
	list := []step{
		{name: "1 replica"},
		{name: "1 to 4", change: func(ctx context.Context) error { return t.scaleUp(ctx, "--build") }},
		{name: "kill -9 two of 4", change: t.killTwo, killing: true},
		{name: "2 to 4", change: func(ctx context.Context) error { return t.scaleUp(ctx) }},
		{name: "stop one of 4", change: t.stopOne},
	}
	if t.cluster.count > 1 {
		if err := t.buildNext(ctx); err != nil {
			return err
		}
		list = append(list,
			step{name: "kill -9 a broker", change: t.killBroker},
			step{name: "next version", change: t.rollForward},
			step{name: "version before", change: t.rollBack})
	}
	for _, s := range list {
		if err := t.step(ctx, s); err != nil {
			return fmt.Errorf("step %q: %w", s.name, err)
		}
	}
	return nil
}
