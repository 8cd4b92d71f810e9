// Command failover proves what a client may rely on when PostgreSQL fails over. Replicas of
// `paylatch serve` reach a primary and its standby by one URL with both hosts. Under load the
// primary is lost and the standby promoted, again and again and in several ways. A recorder keeps
// every response that a client received.
//
// With a synchronous standby no payment that a client knows may be lost, or be in the topic twice.
// With an asynchronous one only payments may be that no client knows as `sent`. A control, whose
// commits do not wait, must lose payments. Kafka's console consumer and kcat are the witnesses.
//
//	go run ./test/failover --failovers 5 --away 30s
//
// It needs Docker and kcat. Exit code 0 says that all of it holds, and that every fault showed.
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

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// options are what the command line says.
type options struct {
	failovers int
	away      time.Duration
	rate      int
	replicasN int
	only      string
	keep      bool
}

const (
	// setUpTimeout bounds a build and the start of the containers, witnessTimeout the consumers.
	setUpTimeout   = 4 * time.Minute
	witnessTimeout = 5 * time.Minute
	cleanUpTimeout = 30 * time.Second
)

func main() {
	var o options
	flag.IntVar(&o.failovers, "failovers", len(synchronous), "failovers to a synchronous standby, the kinds by turns")
	flag.DurationVar(&o.away, "away", 30*time.Second, "how long the standby is frozen the first time")
	flag.IntVar(&o.rate, "rate", 300, "payments per second")
	flag.IntVar(&o.replicasN, "replicas", 3, "how many replicas run; at least 2")
	flag.StringVar(&o.only, "only", "", "one kind of failover, by the name that the table shows")
	flag.BoolVar(&o.keep, "keep", false, "keep the logs of a run that passed, too")
	flag.Parse()
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

func (o options) check() error {
	switch {
	case o.failovers < 0 || o.failovers > 1000:
		return errors.New("--failovers is 0 to 1000")
	case o.away < time.Second || o.away > time.Hour:
		return errors.New("--away is 1s to 1h")
	case o.rate < 1 || o.rate > 10_000:
		return errors.New("--rate is 1 to 10000")
	case o.replicasN < 2 || o.replicasN > 20:
		return errors.New("--replicas is 2 to 20: in a split brain each side has one")
	case len(o.plan()) == 0:
		return fmt.Errorf("--only %q is no kind of failover", o.only)
	}
	return nil
}

// plan lists the failovers to make, in order.
func (o options) plan() (all []scenario) {
	for n := range o.failovers {
		all = append(all, synchronous[n%len(synchronous)])
	}
	all = append(all, others...)
	return slices.DeleteFunc(all, func(s scenario) bool { return o.only != "" && s.name != o.only })
}

// run is a whole run: set up, fail over, judge.
func run(ctx context.Context, o options) (err error) {
	s := &stage{options: o, prefix: fmt.Sprintf("paylatch-failover-%d-%d", os.Getpid(), time.Now().Unix())}
	s.dir, err = os.MkdirTemp("", s.prefix+"-")
	if err != nil {
		return err
	}
	s.logs = &logs{dir: s.dir}
	defer func() {
		keep := o.keep || err != nil
		if keep {
			ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
			s.preserve(ctx)
			cancel()
			fmt.Println("the logs are in", s.dir)
		}
		err = errors.Join(err, s.close())
		if !keep {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}()
	setUp, cancel := context.WithTimeout(ctx, setUpTimeout)
	defer cancel()
	if err := s.setUp(setUp); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	for i, kind := range o.plan() {
		f := &failover{stage: s, scenario: kind, number: i + 1, first: i < len(synchronous)}
		s.done = append(s.done, f)
		if err := f.run(ctx); err != nil {
			return fmt.Errorf("failover %d, %s: %w; until then: %s", f.number, f.name, err, f.proof())
		}
		fmt.Printf("%8s  failover %d, %s: %s\n", f.took.Round(time.Second), f.number, f.name, f.proof())
	}
	ctx, cancelWitnesses := context.WithTimeout(ctx, witnessTimeout)
	defer cancelWitnesses()
	return s.verdict(ctx)
}

// verdict judges all failovers on the table and the topic as they are at the end.
func (s *stage) verdict(ctx context.Context) error {
	var e evidence
	ids, err := query(ctx, s.cluster.leader(), func(row pgx.CollectableRow) (id uuid.UUID, err error) {
		err = row.Scan((*[16]byte)(&id))
		return id, err
	}, `select id from payments`)
	if err != nil {
		return err
	}
	e.rows = make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		e.rows[id] = true
	}
	kcat, err := s.kafka.Kcat(ctx, "read_committed")
	if err != nil {
		return err
	}
	console, err := s.kafka.ConsoleConsumer(ctx)
	if err != nil {
		return err
	}
	e.kcat, e.console = byPayment(kcat), byPayment(console)
	r := report{faults: s.logs.faults()}
	if !slices.Equal(kcat, console) {
		r.faults = append(r.faults, fmt.Sprintf("kcat read %d records, the console consumer %d, and not the same",
			len(kcat), len(console)))
	}
	if n := e.unexpected(); n > 0 {
		r.faults = append(r.faults, fmt.Sprintf("%d payments are in the topic and not in the table", n))
	}
	for _, f := range s.done {
		e.responses, e.away = f.load.responses, f.away
		r.add(f, judge(e))
	}
	r.print(os.Stdout, len(ids), len(kcat), len(console))
	if len(r.faults) > 0 {
		return errors.New(strings.Join(r.faults, "\n"))
	}
	return nil
}
