// Command chaos is the proof of exactly once under faults. Over several `paylatch serve` processes, PostgreSQL and one or three Kafka brokers in containers, under
// load, it does what a seeded plan says: kill -9, SIGSTOP, zombies, immediate stops of PostgreSQL, kill -9 of brokers, links cut, reset, swallowed and slowed between
// each replica and each of them, clean restarts and scaling. Then it heals all, drains, and holds the topic, as three read_committed consumers see it, against the
// table and against the client's own journal.
//
// Exit code 0 says: each payment that was ever answered with 202 is in the table and in the topic exactly once, nothing else is, the order per sender account is kept,
// and the faults were harsh enough for that to mean something. With --delivery locked it is the control of itself: duplicates must be found.
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

// options are what the command line says.
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
	// setUpMax bounds images that start, a build, and the topic.
	setUpMax = 4 * time.Minute
	// settleMax bounds the answers to what was left open, drainMax the emission of the rest, judgeMax the three readers.
	settleMax = time.Minute
	drainMax  = 2 * time.Minute
	judgeMax  = 5 * time.Minute
)

func main() {
	var o options
	minutes := flag.Float64("minutes", 5, "how long faults are made, in minutes; fractions may be given")
	flag.Uint64Var(&o.seed, "seed", 0, "what the plan of faults is drawn from; 0 takes one by chance")
	flag.IntVar(&o.brokers, "brokers", 1, "1, or 3 with replication 3 and min.insync 2")
	flag.IntVar(&o.replicas, "replicas", 4, "how many replicas run; at least 3")
	flag.StringVar(&o.delivery, "delivery", "fenced", "fenced, or locked as a control: then duplicates must be found")
	flag.IntVar(&o.rate, "rate", 300, "payments per second")
	flag.IntVar(&o.batchMax, "batch-max", 50, "payments in one batch at most; small ones hit the window more often")
	flag.BoolVar(&o.keep, "keep", false, "keep the logs of a run that passed, too")
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
		return errors.New("--brokers is 1 or 3")
	case o.replicas < 3 || o.replicas > 20:
		return errors.New("--replicas is 3 to 20: two are scaled down at once")
	case o.duration < 10*time.Second || o.duration > 24*time.Hour:
		return errors.New("--minutes is 0.2 to 1440")
	case o.rate < 1 || o.rate > 100_000:
		return errors.New("--rate is 1 to 100000")
	case o.delivery != "fenced" && o.delivery != "locked":
		return errors.New("--delivery is fenced or locked")
	}
	return nil
}

// run is a whole run: set up, torment, heal, drain, judge.
func run(ctx context.Context, o options) (err error) {
	s := &stage{options: o, name: fmt.Sprintf("paylatch-chaos-%d-%d", os.Getpid(), time.Now().Unix()), log: &logbook{}}
	if s.dir, err = os.MkdirTemp("", s.name+"-"); err != nil {
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
		fmt.Println("logs, plan, journal and the ends of the topic's partitions are in", s.dir)
	}()
	fmt.Printf("seed %d, %s, %d replicas, %d brokers, %s delivery, %d payments/s\n", o.seed, o.duration, o.replicas, o.brokers, o.delivery, o.rate)
	setUp, cancel := context.WithTimeout(ctx, setUpMax)
	defer cancel()
	if err := s.setUp(setUp); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	faults, err := os.Create(filepath.Join(s.dir, "faults.log"))
	if err != nil {
		return err
	}
	defer func() { _ = faults.Close() }()

	t := newTormentor(s.fleet, s.postgres, s.kafka, faults)
	if err := s.torment(ctx, t); err != nil {
		return err
	}
	if err := t.heal(); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	left := s.client.settle(settleMax)
	fmt.Printf("healed; %d requests still without an answer; draining\n", left)
	if err := s.drain(ctx); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, judgeMax)
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

// setUp builds the program, starts the containers, makes tables, topic, tenant and roles, and starts the replicas.
func (s *stage) setUp(ctx context.Context) error {
	var err error
	if s.binary, err = harness.BuildPaylatch(ctx, s.dir); err != nil {
		return err
	}
	free := harness.NewPorts()
	take := func() int {
		port, err := free.Take()
		if err != nil {
			panic(err) // Thousands of ports are taken: nothing can be run on this machine.
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
	if s.postgres, err = newPostgres(ctx, s.name, take()); err != nil {
		return err
	}
	if s.kafka, err = harness.NewKafka(ctx, s.name, brokers); err != nil {
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

// direct is the environment of commands that reach all past the proxies.
func (s *stage) direct() []string {
	replication := "0"
	if s.brokers > 1 {
		replication = fmt.Sprint(s.brokers)
	}
	return []string{
		"PAYLATCH_DATABASE_URL=" + databaseURL("paylatch", s.postgres.port), "PAYLATCH_KAFKA_BROKERS=" + s.kafka.Brokers(),
		"PAYLATCH_TOPIC=" + harness.Topic, "PAYLATCH_DELIVERY=" + s.delivery, "PAYLATCH_REPLICATION=" + replication,
	}
}

// replica makes a slot with its links.
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
		if l, err = harness.NewLink(fmt.Sprintf("replica%d-kafka%d", slot, i+1), b.Advertised[slot], b.Published[slot]); err != nil {
			return nil, err
		}
		r.links, seeds = append(r.links, l), append(seeds, l.Listen)
	}
	r.Env = []string{
		"PAYLATCH_DATABASE_URL=" + databaseURL(roleOf(slot), database), "PAYLATCH_KAFKA_BROKERS=" + strings.Join(seeds, ","),
		"PAYLATCH_LISTEN=" + harness.Address(r.api), "PAYLATCH_ADMIN_LISTEN=" + harness.Address(r.admin), "PAYLATCH_DELIVERY=" + s.delivery,
		fmt.Sprintf("PAYLATCH_BATCH_MAX=%d", s.batchMax), "PAYLATCH_DATABASE_CONNECTIONS=8", "PAYLATCH_SHUTDOWN_TIMEOUT=" + shutdownTimeout.String(),
	}
	return r, nil
}

// warmUp is how long the load runs before the first fault, and after the last one is healed.
const warmUp = 3 * time.Second

// torment does the plan's faults under load.
func (s *stage) torment(ctx context.Context, t *tormentor) error {
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
		return fmt.Errorf("faults could not be made or healed:\n%s", strings.Join(t.failures, "\n"))
	}
	return context.Cause(ctx)
}

// progress tells now and then how it goes. A partition that has halted ends the run: what is on record then is what its cause is looked for in.
func (s *stage) progress(ctx context.Context, t *tormentor) error {
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
		fmt.Printf("%7s  %d faults, %d requests, %d windows hit\n", time.Since(t.began).Round(time.Second), faults, requests, s.log.windows())
		if err := s.halted(ctx); err != nil {
			return err
		}
	}
	return nil
}

const (
	countUnsent  = `select count(*) from payments where status = 'created'`
	selectHalted = `select coalesce(string_agg(partition || ': ' || reason, '; '), '') from topic_partitions where state = 'halted'`
)

// halted tells which partitions have; a database that is away tells nothing.
func (s *stage) halted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var halted string
	if err := s.postgres.pool.QueryRow(ctx, selectHalted).Scan(&halted); err == nil && halted != "" {
		return fmt.Errorf("partitions have halted: %s", halted)
	}
	return nil
}

// drain waits until nothing is unsent.
func (s *stage) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	for {
		if err := s.halted(ctx); err != nil {
			return err
		}
		var unsent int
		err := s.postgres.pool.QueryRow(ctx, countUnsent).Scan(&unsent)
		switch {
		case err == nil && unsent == 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%d payments are not sent %s after all was healed: %w", unsent, drainMax, errors.Join(err, ctx.Err()))
		}
		harness.Pause(ctx, 200*time.Millisecond)
	}
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
