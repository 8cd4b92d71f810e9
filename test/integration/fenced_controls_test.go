package integration

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

// The positive controls of fenced delivery: each runs a real sender without one of its guards, and
// injects the fault that the guard is for. Each makes duplicates, which verify must see. The sender
// with all guards makes none. They reproduce the counterexamples of the models (test/model).
//
// All faults are in partition 0. The other eleven partitions are served normally.

const (
	// bentPayments is 100 for each partition.
	bentPayments = 1200
	// bentBatch is the size of the batch in progress.
	bentBatch = 20
	// killOwner ends the session that owns partition 0. The class of the lock is the one that store
	// uses for partitions.
	killOwner = `select count(pg_terminate_backend(pid, 10000)) from pg_locks
		where locktype = 'advisory' and classid = 1886413922 and objid = 0
		and database = (select oid from pg_database where datname = current_database())`
)

// TestFencedControl_TailRead kills an owner's session between Kafka's commit and PostgreSQL's. A
// takeover that does not read the tail of the log emits that batch again.
func TestFencedControl_TailRead(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		bend       func(*sender.Config)
		duplicates int64
	}{
		"LeftOut": {func(c *sender.Config) { c.Log = blind{c.Log} }, bentBatch},
		"Whole":   {func(*sender.Config) {}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			i.bulk(t, bentPayments)
			var once sync.Once
			var killed atomic.Int64
			i.runFenced(t, row.bend, func(c *sender.Config) {
				c.At = func(partition int32, p sender.Point) {
					if partition == 0 && p == sender.BatchCommitted {
						once.Do(func() { killed.Store(int64(i.count(t, killOwner))) })
					}
				}
			})
			i.drained(t)
			if killed.Load() != 1 {
				t.Errorf("got %d sessions killed, want 1", killed.Load())
			}
			i.wantDuplicates(t, bentPayments, row.duplicates)
		})
	}
}

// blind is a log that returns no records.
type blind struct{ sender.Log }

func (blind) Read(context.Context, string, int32, int64, int64, func(kafka.Record) error) error {
	return nil
}

// TestFencedControl_Zombie has an owner that selects a batch and then loses its session. Another
// replica takes over and sends all. Then the first one continues, which no database can prevent.
//
// It emits its batch again if it is not fenced and does not check that its records are at the
// offsets of the table. Each of the two guards alone prevents that, as in the model.
func TestFencedControl_Zombie(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		bend       func(c *sender.Config, topic string)
		duplicates int64
	}{
		"NeitherFencingNorContinuity": {func(c *sender.Config, topic string) {
			c.Fencer = anywhere{unfenced{c.Fencer}, c.Log, topic}
		}, bentBatch},
		"ContinuityAlone": {func(c *sender.Config, topic string) { c.Fencer = unfenced{c.Fencer} }, 0},
		"FencingAlone": {func(c *sender.Config, topic string) {
			c.Fencer = anywhere{c.Fencer, c.Log, topic}
		}, 0},
		"Both": {func(*sender.Config, string) {}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			i.bulk(t, bentPayments)
			bend := func(c *sender.Config) { row.bend(c, i.topic) }
			var (
				once      sync.Once
				killed    = make(chan int, 1)
				held      = make(chan struct{})
				goOn      = sync.OnceFunc(func() { close(held) })
				committed atomic.Bool
			)
			defer goOn()
			stop := i.runFenced(t, bend, func(c *sender.Config) {
				c.At = func(partition int32, p sender.Point) {
					if partition != 0 {
						return
					}
					if p == sender.BatchSelected {
						once.Do(func() {
							killed <- i.count(t, killOwner)
							<-held
						})
					}
					if p == sender.BatchCommitted {
						committed.Store(true)
					}
				}
			})
			if n := <-killed; n != 1 {
				t.Fatalf("got %d sessions killed, want 1", n)
			}
			over := make(chan struct{})
			// The sender releases its partitions, and completes the batch in progress.
			go func() {
				stop()
				close(over)
			}()
			i.runFenced(t, bend)
			i.drained(t)
			goOn()
			<-over
			if committed.Load() != (row.duplicates > 0) {
				t.Errorf("the zombie committed to Kafka: got %t, want %t", committed.Load(), row.duplicates > 0)
			}
			i.wantDuplicates(t, bentPayments, row.duplicates)
		})
	}
}

// unfenced gives each producer its own transactional id. So no producer fences another one.
type unfenced struct{ sender.Fencer }

func (u unfenced) Fence(ctx context.Context, partition int32, transactionalID string) (sender.Producer, error) {
	return u.Fencer.Fence(ctx, partition, transactionalID+"-"+newKey())
}

// anywhere makes producers that append at any end of the log, without checking the offset.
type anywhere struct {
	sender.Fencer
	log   sender.Log
	topic string
}

func (a anywhere) Fence(ctx context.Context, partition int32, transactionalID string) (sender.Producer, error) {
	p, err := a.Fencer.Fence(ctx, partition, transactionalID)
	if err != nil {
		return nil, err
	}
	return atTheEnd{p, a, partition}, nil
}

type atTheEnd struct {
	sender.Producer
	of        anywhere
	partition int32
}

// Produce waits until the previous transaction has its marker. Before that the end of the log is
// not the offset of the next record.
func (p atTheEnd) Produce(ctx context.Context, _ int64, events []kafka.Event) error {
	for {
		log, err := p.of.log.Range(ctx, p.of.topic, p.partition)
		if err != nil {
			return err
		}
		if log.StableEnd == log.End {
			return p.Producer.Produce(ctx, log.End, events)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestFencedControl_CommitError has Kafka commit a transaction while the response is an error,
// once.
//
// A sender that takes the error for "not sent" publishes the batch again, as the one producer of
// the partition. Neither the fence nor the tail can prevent these duplicates. The next takeover
// finds them, and halts the partition.
//
// Our sender starts a takeover, and reads in the log what became of the batch.
func TestFencedControl_CommitError(t *testing.T) {
	t.Parallel()
	t.Run("TakenForNotSent", func(t *testing.T) {
		t.Parallel()
		i := install(t)
		i.bulk(t, bentPayments)
		i.runFenced(t, func(c *sender.Config) { c.Fencer = retrying{lying{c.Fencer, new(atomic.Bool)}} })
		eventually(t, "partition 0 halts, and all others are drained", func() error {
			if i.count(t, `select count(*) from payments where status = 'created' and partition <> 0`) > 0 ||
				i.count(t, `select count(*) from topic_partitions where partition = 0 and state = 'halted'
					and reason like '% repeat payments'`) != 1 {
				return errNotYet
			}
			return nil
		})
		i.stable(t)
		if r := i.verify(t); r.Duplicates != bentBatch || r.Records != r.Payments-r.Unsent+bentBatch ||
			r.Missing != 0 || r.Unexpected != 0 || r.Hidden != 0 {
			t.Errorf("got %+v, want a batch of %d as duplicates and no other fault", r, bentBatch)
		}
	})
	t.Run("TakenForUnknown", func(t *testing.T) {
		t.Parallel()
		i := install(t)
		i.bulk(t, bentPayments)
		lied := new(atomic.Bool)
		i.runFenced(t, func(c *sender.Config) { c.Fencer = lying{c.Fencer, lied} })
		i.drained(t)
		if !lied.Load() {
			t.Error("got no commit with an error, want one: nothing was tested")
		}
		i.wantDuplicates(t, bentPayments, 0)
	})
}

// lying makes producers. The one for partition 0 commits once and returns an error.
type lying struct {
	sender.Fencer
	lied *atomic.Bool
}

func (l lying) Fence(ctx context.Context, partition int32, transactionalID string) (sender.Producer, error) {
	p, err := l.Fencer.Fence(ctx, partition, transactionalID)
	if err != nil || partition != 0 {
		return p, err
	}
	return liar{p, l.lied}, nil
}

type liar struct {
	sender.Producer
	lied *atomic.Bool
}

func (l liar) Commit(ctx context.Context) error {
	err := l.Producer.Commit(ctx)
	if err == nil && l.lied.CompareAndSwap(false, true) {
		return errors.New("the response was lost")
	}
	return err
}

// retrying makes producers that take a failed commit for one that did not happen, and publish the
// batch again.
type retrying struct{ sender.Fencer }

func (r retrying) Fence(ctx context.Context, partition int32, transactionalID string) (sender.Producer, error) {
	p, err := r.Fencer.Fence(ctx, partition, transactionalID)
	if err != nil {
		return nil, err
	}
	return &retrier{Producer: p}, nil
}

type retrier struct {
	sender.Producer
	next   int64
	events []kafka.Event
}

func (r *retrier) Produce(ctx context.Context, next int64, events []kafka.Event) error {
	r.next, r.events = next, events
	return r.Producer.Produce(ctx, next, events)
}

func (r *retrier) Commit(ctx context.Context) error {
	if r.Producer.Commit(ctx) == nil {
		return nil
	}
	// The records follow the first attempt and its marker: this sender even checks the end of the
	// log.
	if err := r.Producer.Produce(ctx, r.next+int64(len(r.events))+1, r.events); err != nil {
		return err
	}
	return r.Producer.Commit(ctx)
}

// runFenced runs a sender in fenced delivery, changed by bends. It stops when stop is called, or
// when the test ends.
func (i *installation) runFenced(t *testing.T, bends ...func(*sender.Config)) (stop func()) {
	t.Helper()
	s, err := store.Open(t.Context(), i.env["PAYLATCH_DATABASE_URL"], 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	access := brokers.At(i.env["PAYLATCH_KAFKA_BROKERS"])
	cluster, err := kafka.NewCluster(access)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	config := sender.Config{
		Store: s, Delivery: store.DeliveryFenced,
		Fencer: sender.FencerOf(kafka.NewFencer(access, i.topic, store.PublishTimeout)), Log: cluster,
		Encoder: kafka.NewEncoder("/test"), BatchMax: bentBatch,
		Logger:  slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: sender.NewMetrics(prometheus.NewRegistry()),
	}
	for _, bend := range bends {
		bend(&config)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { sender.New(config).Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// wantDuplicates expects each of n payments in the topic, the given number of them twice, and no
// other fault.
func (i *installation) wantDuplicates(t *testing.T, n, duplicates int64) {
	t.Helper()
	i.stable(t)
	r := i.verify(t)
	if r.Duplicates != duplicates || r.Payments != n || r.Records != n+duplicates || r.Missing != 0 ||
		r.Unexpected != 0 || r.Hidden != 0 || r.Unsent != 0 ||
		r.NotJudged != (auditor.NotJudged{}) {
		t.Errorf("got %+v, want %d payments in the topic, and %d of them twice", r, n, duplicates)
	}
}
