// Package sender claims stored payments, publishes them, and marks them sent.
//
// Any number of replicas share the partitions. None is configured with its part. A partition has at
// most one owner, which takes it over and then sends batches: claim, publish, mark, commit. A
// payment leaves `created` only in the transaction that records its offset, so none is lost.
//
// In fenced delivery each batch is a Kafka transaction, and a new owner first reads the part of the
// log that the table does not have. Each payment is emitted exactly once, whatever crashes. In
// locked delivery no two replicas emit a payment while their database sessions live. A crash, a
// lost response, or a session lost during the publishing repeats that batch.
//
// Sender shares the partitions (rebalance.go). A partitionWorker owns one partition: it acquires
// it, recovers, and sends batches (worker.go, batch.go). A delivery does what differs between the
// two kinds (delivery.go, fenced.go, locked.go).
package sender

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// observeEvery is how often a replica observes the others. The end of a replica is noticed at
	// once; see peerWatch.
	observeEvery = time.Second
	// A replica that cannot send backs off from backoffMin to backoffMax, doubled each time, with
	// jitter. backoffMax bounds how long payments wait after Kafka is back.
	backoffMin = 250 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Publisher appends a batch to one partition of the topic; see kafka.Locked.
type Publisher interface {
	Publish(ctx context.Context, partition int32, events []kafka.Event) (base int64, err error)
}

// Log reads the topic; see kafka.Cluster.
type Log interface {
	Ping(ctx context.Context, topic string, partition int32) error
	Range(ctx context.Context, topic string, partition int32) (kafka.Range, error)
	FirstNonEmpty(
		ctx context.Context, topic string, from int32,
	) (first int32, found bool, partitions int32, err error)
	Read(ctx context.Context, topic string, partition int32, from, to int64, each func(kafka.Record) error) error
}

// Config configures a Sender.
type Config struct {
	Store *store.Store
	// Delivery is that of the partitions to send to. Others are ignored.
	Delivery store.Delivery
	// Publisher is needed for locked delivery.
	Publisher Publisher
	// Fencer is needed for fenced delivery.
	Fencer  Fencer
	Log     Log
	Encoder kafka.Encoder
	// BatchMax is the number of payments in one batch at most; 0 means BatchMaxDefault.
	BatchMax int
	// TailStep is how many offsets of the log a step of a takeover reads; 0 means 10,000.
	TailStep int
	// EndCheckEvery is about how often an idle owner checks the end of its log; 0 means 10 s.
	EndCheckEvery time.Duration
	Logger        *slog.Logger
	Metrics       *Metrics
	// At is called at each Point. It is nil outside of tests.
	At func(partition int32, p Point)
}

// BatchMaxDefault is at the knee of the measured curve of throughput by batch size. It also bounds
// the transaction: see docs/adr/0007-publish-inside-the-transaction.md.
const BatchMaxDefault = 1000

// endedMax is how many workers may have ended before Run handles them. More wait, without harm.
const endedMax = 64

// Sender sends the payments of its share of the partitions. It is one replica.
type Sender struct {
	Config
	workers map[int32]*partitionWorker
	ended   chan ended
	// coolingDown has the partitions that this replica has released after failures, and until when
	// it leaves them to others.
	coolingDown map[int32]time.Time
	// free has the partitions without an owner, and since when, as this replica has observed.
	free map[int32]time.Time
	// partitions are as last observed.
	partitions []store.Partition
	// scarcity is that of database sessions.
	scarcity scarcity
	// now is this machine's clock; see measureClock.
	now func() time.Time

	// clockLogged is when a difference of the clocks was last logged.
	clockLogged time.Time

	// worked is set when a batch was sent since the last back-off.
	worked atomic.Bool

	// interrupt ends the wait for notifications when a worker has ended.
	interrupt atomic.Pointer[context.CancelFunc]
}

// New returns a sender. It does nothing before Run.
func New(c Config) *Sender {
	if c.BatchMax == 0 {
		c.BatchMax = BatchMaxDefault
	}
	s := &Sender{
		Config: c, now: time.Now, workers: map[int32]*partitionWorker{}, ended: make(chan ended, endedMax),
		coolingDown: map[int32]time.Time{}, free: map[int32]time.Time{},
	}
	s.interrupt.Store(new(context.CancelFunc(func() {})))
	return s
}

// Run sends until ctx ends. Then it finishes the batches in progress, releases the partitions, and
// returns. To kill the process at any point is as safe.
func (s *Sender) Run(ctx context.Context) {
	defer s.releaseAll(ctx)
	backoff := backoffMin
	for ctx.Err() == nil {
		if err := s.participate(ctx); err != nil && ctx.Err() == nil {
			if s.worked.Swap(false) { // It has worked since, so this is a new failure.
				backoff = backoffMin
			}
			s.Logger.Warn("sender backing off", "error", err, "retry_in", backoff)
			s.backOff(ctx, jitter(backoff))
			backoff = min(2*backoff, backoffMax)
		}
	}
}

// participate registers this replica and shares the partitions with the others until ctx ends, the
// database is lost, or most workers fail.
//
// A registered replica gets a share. So a replica that cannot reach Kafka must not register, or no
// replica would send its partitions.
func (s *Sender) participate(ctx context.Context) error {
	if n := len(s.partitions); n > 0 {
		p := s.partitions[rand.IntN(n)] // Another one each time, since brokers differ.
		if err := s.reach(ctx, p.Topic, p.Number); err != nil {
			return err
		}
	}
	presence, err := s.Store.Register(ctx, s.Delivery)
	if store.SessionRefused(err) {
		s.Metrics.refused()
		s.Store.CloseIdle(ctx) // The next attempt may use a connection that the pool does not need.
	}
	if err != nil {
		return err
	}
	defer presence.Deregister()
	s.Store.RequestRebalance(ctx) // Replicas that now own more than their share release some.
	clear(s.free)                 // What was observed before is out of date.
	watch := peerWatch{store: s.Store}
	watched, unwatch := context.WithCancel(ctx)
	defer watch.running.Wait()
	defer unwatch()
	for {
		members, err := presence.Observe(ctx)
		if err != nil {
			return err
		}
		s.partitions = members.Partitions
		if err := s.updateScarcity(ctx, presence, members); err != nil {
			return err
		}
		if s.scarcity.scarce {
			members.Peer = 0 // A session is worth more for a partition.
		}
		watch.follow(watched, members.Peer)
		s.rebalance(ctx, members)
		if err := s.dispatch(ctx, presence); err != nil {
			return err
		}
		released, err := s.reapEnded()
		if released && ctx.Err() == nil {
			s.Store.RequestRebalance(ctx)
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// reachTimeout bounds the check whether a partition's leader responds. With a slower leader a batch
// would fail, too.
const reachTimeout = 3 * time.Second

// reach returns nil if the partition's leader responds to this replica.
func (s *Sender) reach(ctx context.Context, topic string, partition int32) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	return s.Log.Ping(ctx, topic, partition)
}

// dispatch notifies the workers whose partitions have new payments, until the next time to observe,
// or until a replica requests a rebalance.
func (s *Sender) dispatch(ctx context.Context, presence *store.Presence) error {
	ctx, cancel := context.WithTimeout(ctx, observeEvery)
	defer cancel()
	s.interrupt.Store(&cancel)
	for ctx.Err() == nil && len(s.ended) == 0 {
		notification, err := presence.AwaitNotification(ctx)
		if err != nil || notification.Rebalance {
			return err
		}
		for _, p := range notification.Created {
			if w, ok := s.workers[p]; ok {
				w.notify()
			}
		}
	}
	return nil
}

// backOff waits for d, while this replica is not registered. Workers that are well go on.
func (s *Sender) backOff(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case e := <-s.ended:
			s.forget(e)
		}
	}
}

// errReleased ends a worker whose batches failed maxFailures times in a row.
var errReleased = errors.New("released the partition")

// reapEnded forgets workers that have ended, and reports whether there were any. It returns the
// error of one that failed, if most other workers fail, too: then the fault is in this replica.
// Otherwise the fault is in the partition, and only that one cools down.
func (s *Sender) reapEnded() (released bool, gaveUp error) {
	for {
		select {
		case e := <-s.ended:
			s.forget(e)
			released = true
			if errors.Is(e.err, errReleased) && s.mostFail() {
				gaveUp = e.err
			}
		default:
			return released, gaveUp
		}
	}
}

// mostFail reports whether more partitions fail here than work. Those that were just released after
// failures count.
func (s *Sender) mostFail() bool {
	failing, working := 0, 0
	for _, until := range s.coolingDown {
		if time.Now().Before(until) {
			failing++
		}
	}
	for _, w := range s.workers {
		if w.failures.Load() > 0 {
			failing++
		} else {
			working++
		}
	}
	return failing > working
}

// forget removes a worker that has ended. Its session is closed.
func (s *Sender) forget(e ended) {
	delete(s.workers, e.partition)
	s.Metrics.released(e.partition)
	switch {
	case e.err == nil, errors.Is(e.err, store.ErrOwned):
	case store.SessionRefused(e.err):
		s.Metrics.refused()
		s.scarcity.refused(len(s.workers))
		s.Logger.Debug("session refused", "partition", e.partition, "error", e.err)
	case errors.Is(e.err, errHalted):
		s.Logger.Error("partition halted; see `paylatch partitions list`", "partition", e.partition, "error", e.err)
	default:
		s.coolingDown[e.partition] = time.Now().Add(jitter(backoffMax))
		s.Logger.Info("partition released", "partition", e.partition, "error", e.err)
	}
}

// releaseAll releases all partitions, waits until the batches in progress are done, and requests a
// rebalance.
func (s *Sender) releaseAll(ctx context.Context) {
	for _, w := range s.workers {
		w.release()
	}
	for len(s.workers) > 0 {
		s.forget(<-s.ended)
	}
	// After that time they observe by themselves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), observeEvery)
	defer cancel()
	s.Store.RequestRebalance(ctx)
}

// jitter spreads d over 50 % to 100 %, so that replicas that failed together do not come back
// together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2)
}
