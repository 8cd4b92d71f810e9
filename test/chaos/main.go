// Command chaos tests exactly-once delivery under random faults. It runs several `paylatch serve`
// processes under load, with PostgreSQL and one or three Kafka brokers in containers. The faults
// follow from a seed:
//
//   - replicas: kill -9, SIGSTOP, zombies, clean restarts, scaling
//   - PostgreSQL: immediate stops
//   - brokers: kill -9
//   - links of a replica to PostgreSQL or to a broker: cut, reset, black hole, latency, bandwidth
//
// Then it heals all faults, waits until all payments are sent, and compares the topic with the
// table and with the client's journal. Three read_committed consumers read the topic.
//
// Exit code 0 means: each payment that was confirmed with 202 is in the table and in the topic
// exactly once, and nothing else is. The order per sender account is kept. Enough faults fired.
// With --delivery locked the test is its own control: it must find duplicates.
//
//	go run ./test/chaos --minutes 5 --seed 1 --brokers 1
//
// It needs Docker and kcat.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/paylatch/paylatch/test/harness"
)

// options are those of the command line.
type options struct {
	duration time.Duration
	seed     uint64
	brokers  int
	replicas int
	delivery string
	rate     int
	batchMax int
	keep     bool
}

const (
	// setUpTimeout bounds the build, the start of the containers, and the creation of the topic.
	setUpTimeout = 4 * time.Minute
	// settleTimeout bounds the retries of requests without a response.
	settleTimeout = time.Minute
	// drainTimeout bounds the sending of what is left.
	drainTimeout = 2 * time.Minute
	// judgeTimeout bounds the three consumers.
	judgeTimeout = 5 * time.Minute
)

func main() {
	var o options
	minutes := flag.Float64("minutes", 5, "inject faults for this many minutes; may be a fraction")
	flag.Uint64Var(&o.seed, "seed", 0, "draw the faults from this seed; 0 means a random one")
	flag.IntVar(&o.brokers, "brokers", 1, "start 1 broker, or 3 with replication 3 and min.insync.replicas 2")
	flag.IntVar(&o.replicas, "replicas", 4, "start this many replicas; at least 3")
	flag.StringVar(&o.delivery, "delivery", "fenced", "use this delivery: fenced, or locked as a control, "+
		"which must find duplicates")
	flag.IntVar(&o.rate, "rate", 300, "create this many payments per second")
	flag.IntVar(&o.batchMax, "batch-max", 50, "limit a batch to this many payments; "+
		"small batches hit the window more often")
	flag.BoolVar(&o.keep, "keep", false, "keep the logs even if the run passes")
	flag.Parse()
	o.duration = time.Duration(*minutes * float64(time.Minute))
	if o.seed == 0 {
		o.seed = uint64(rand.Uint32()) + 1
	}
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func (o options) check() error {
	switch {
	case o.brokers != 1 && o.brokers != 3:
		return errors.New("--brokers must be 1 or 3")
	case o.replicas < 3 || o.replicas > 20:
		return errors.New("--replicas must be 3 to 20: two are scaled down at once")
	case o.duration < 10*time.Second || o.duration > 24*time.Hour:
		return errors.New("--minutes must be 0.2 to 1440")
	case o.rate < 1 || o.rate > 100_000:
		return errors.New("--rate must be 1 to 100000")
	case o.delivery != "fenced" && o.delivery != "locked":
		return errors.New("--delivery must be fenced or locked")
	}
	return nil
}

// run makes a whole run: set up, inject, heal, drain, judge.
func run(ctx context.Context, o options) (err error) {
	s := &stage{options: o, log: &logbook{}}
	s.name = fmt.Sprintf("paylatch-chaos-%d-%d", os.Getpid(), time.Now().Unix())
	s.dir, err = os.MkdirTemp("", s.name+"-")
	if err != nil {
		return err
	}
	defer func() {
		keep := o.keep || err != nil
		if keep {
			s.preserve()
		}
		err = errors.Join(err, s.close())
		if !keep {
			err = errors.Join(err, os.RemoveAll(s.dir))
			return
		}
		fmt.Println("logs, plan, journal and the ends of the topic's partitions:", s.dir)
	}()
	fmt.Printf("seed %d, %s, %d replicas, %d brokers, %s delivery, %d payments/s\n",
		o.seed, o.duration, o.replicas, o.brokers, o.delivery, o.rate)
	setUp, cancel := context.WithTimeout(ctx, setUpTimeout)
	defer cancel()
	if err := s.setUp(setUp); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	faults, err := os.Create(filepath.Join(s.dir, "faults.log"))
	if err != nil {
		return err
	}
	defer func() { _ = faults.Close() }()

	t := newInjector(s.fleet, s.postgres, s.kafka, faults)
	if err := s.inject(ctx, t); err != nil {
		return err
	}
	if err := t.heal(); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	left := s.client.settle(settleTimeout)
	fmt.Printf("healed; %d requests without a response; draining\n", left)
	if err := s.drain(ctx); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	return s.judge(ctx, os.Stdout, t)
}

// stage is all that a run starts.
type stage struct {
	options
	name     string // Of the run, and the beginning of its containers' names.
	dir      string
	binary   string
	postgres *postgres
	kafka    *harness.Kafka
	fleet    *fleet
	client   *payer
	log      *logbook
}

// setUp builds paylatch, starts the containers, creates tables, topic, tenant and roles, and starts
// the replicas.
func (s *stage) setUp(ctx context.Context) error {
	var err error
	s.binary, err = harness.BuildPaylatch(ctx, s.dir)
	if err != nil {
		return err
	}
	free := harness.NewPorts()
	take := func() int {
		port, err := free.Take()
		if err != nil {
			panic(err) // Thousands of ports are taken: nothing can run on this machine.
		}
		return port
	}
	brokers := make([]harness.BrokerPorts, s.brokers)
	for i := range brokers {
		brokers[i].Direct = take()
		for range s.replicas {
			brokers[i].Published = append(brokers[i].Published, take())
			brokers[i].Advertised = append(brokers[i].Advertised, take())
		}
	}
	s.postgres, err = newPostgres(ctx, s.name, take())
	if err != nil {
		return err
	}
	s.kafka, err = harness.NewKafka(ctx, s.name, brokers)
	if err != nil {
		return err
	}
	key, err := harness.SetUp(ctx, s.binary, "chaos", s.direct())
	if err != nil {
		return err
	}
	if err := s.postgres.addRoles(ctx, s.replicas); err != nil {
		return err
	}
	var replicas []*replica
	var servers []string
	for slot := range s.replicas {
		r, err := s.replica(slot, brokers, take)
		if err != nil {
			return err
		}
		replicas, servers = append(replicas, r), append(servers, "http://"+harness.Address(r.api))
	}
	s.fleet = newFleet(replicas)
	for _, r := range replicas {
		if err := r.Start(); err != nil {
			return err
		}
	}
	s.client, err = newPayer(servers, key, s.seed, retryFor)
	return err
}

// direct returns the environment of commands that do not use the links.
func (s *stage) direct() []string {
	replication := "0"
	if s.brokers > 1 {
		replication = fmt.Sprint(s.brokers)
	}
	return []string{
		"PAYLATCH_DATABASE_URL=" + databaseURL("paylatch", s.postgres.port),
		"PAYLATCH_KAFKA_BROKERS=" + s.kafka.Brokers(), "PAYLATCH_TOPIC=" + harness.Topic,
		"PAYLATCH_DELIVERY=" + s.delivery, "PAYLATCH_REPLICATION=" + replication,
	}
}

// replica returns a replica that is not started, with its links.
func (s *stage) replica(slot int, brokers []harness.BrokerPorts, take func() int) (*replica, error) {
	r := &replica{slot: slot, api: take(), admin: take()}
	r.Binary = s.binary
	r.Follow = func(log io.Reader) { s.follow(slot, log) }
	r.Died = func(pid int, err error) {
		s.log.note(func() { s.log.died = append(s.log.died, fmt.Sprintf("replica %d, pid %d: %v", slot, pid, err)) })
	}
	database := take()
	l, err := harness.NewLink(fmt.Sprintf("replica%d-postgres", slot), database, s.postgres.port)
	if err != nil {
		return nil, err
	}
	r.links = append(r.links, l)
	var seeds []string
	for i, b := range brokers {
		name := fmt.Sprintf("replica%d-kafka%d", slot, i+1)
		l, err = harness.NewLink(name, b.Advertised[slot], b.Published[slot])
		if err != nil {
			return nil, err
		}
		r.links, seeds = append(r.links, l), append(seeds, l.Listen)
	}
	r.Env = []string{
		"PAYLATCH_DATABASE_URL=" + databaseURL(roleOf(slot), database),
		"PAYLATCH_KAFKA_BROKERS=" + strings.Join(seeds, ","), "PAYLATCH_DELIVERY=" + s.delivery,
		"PAYLATCH_SHOW_POSITION=true",
		"PAYLATCH_LISTEN=" + harness.Address(r.api), "PAYLATCH_ADMIN_LISTEN=" + harness.Address(r.admin),
		fmt.Sprintf("PAYLATCH_BATCH_MAX=%d", s.batchMax), "PAYLATCH_DATABASE_CONNECTIONS=8",
		"PAYLATCH_SHUTDOWN_TIMEOUT=" + shutdownTimeout.String(),
	}
	return r, nil
}

// warmUp is how long the load runs before the first fault, and after the last one is healed.
const warmUp = 3 * time.Second

// inject injects the faults of the plan under load.
func (s *stage) inject(ctx context.Context, t *injector) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	load, stop := context.WithCancel(ctx)
	defer stop()
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		s.client.run(load, s.rate)
	}()
	progress := make(chan struct{})
	go func() {
		defer close(progress)
		if err := s.progress(load, t); err != nil {
			fail(err)
		}
	}()
	harness.Pause(ctx, warmUp)
	t.began = time.Now()
	t.run(ctx, plan(s.seed, s.duration, s.brokers))
	harness.Pause(ctx, warmUp)
	stop()
	<-loaded
	<-progress
	if len(t.failures) > 0 && ctx.Err() == nil {
		return fmt.Errorf("faults could not be injected or healed:\n%s", strings.Join(t.failures, "\n"))
	}
	return context.Cause(ctx)
}

// progress prints numbers now and then. It returns an error if a partition has halted, which ends
// the run, so that the state is preserved in which the cause can be found.
func (s *stage) progress(ctx context.Context, t *injector) error {
	const every = 15 * time.Second
	for harness.Pause(ctx, every); ctx.Err() == nil; harness.Pause(ctx, every) {
		t.mu.Lock()
		faults := 0
		for _, n := range t.fired {
			faults += n
		}
		t.mu.Unlock()
		s.client.mu.Lock()
		requests := len(s.client.journal)
		s.client.mu.Unlock()
		fmt.Printf("%7s  %d faults, %d requests, %d windows hit\n",
			time.Since(t.began).Round(time.Second), faults, requests, s.log.windows())
		if err := s.halted(ctx); err != nil {
			return err
		}
	}
	return nil
}

const (
	countUnsent  = `select count(*) from payments where status = 'created'`
	selectHalted = `select coalesce(string_agg(partition || ': ' || reason, '; '), '') from topic_partitions
		where state = 'halted'`
)

// halted returns an error that names the halted partitions. If the database is down it returns nil.
func (s *stage) halted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var halted string
	if err := s.postgres.pool.QueryRow(ctx, selectHalted).Scan(&halted); err == nil && halted != "" {
		return fmt.Errorf("halted partitions: %s", halted)
	}
	return nil
}

// drain waits until nothing is unsent.
func (s *stage) drain(ctx context.Context) error {
	const what = "all payments are sent after all faults were healed"
	return harness.Eventually(ctx, drainTimeout, what, func(ctx context.Context) error {
		if err := s.halted(ctx); err != nil {
			return harness.Permanent(err)
		}
		var unsent int
		err := s.postgres.pool.QueryRow(ctx, countUnsent).Scan(&unsent)
		if err == nil && unsent > 0 {
			err = fmt.Errorf("%d payments are unsent", unsent)
		}
		return err
	})
}

// close ends all that was started.
func (s *stage) close() error {
	if s.fleet != nil {
		for _, r := range s.fleet.replicas {
			_ = r.Signal(syscall.SIGCONT)
			_ = r.Kill()
			for _, l := range r.links {
				l.Close()
			}
		}
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.postgres != nil && s.postgres.pool != nil {
		s.postgres.pool.Close()
	}
	return harness.RemoveAll(s.name)
}
