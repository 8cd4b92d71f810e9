// Package sender takes what is stored and not yet sent, has it published, and records that it was.
//
// Any number of replicas share the partitions among them; none is configured with its share. A
// partition has one owner at a time, which takes it over and then makes passes: claim, publish,
// mark, commit. A payment leaves `created` only in the transaction that records its offset, so
// nothing is ever lost.
//
// In fenced delivery each batch is a Kafka transaction, and a new owner first reads what the log
// holds beyond the table: each payment is emitted exactly once, whatever crashes. In locked
// delivery no two replicas emit one payment while database sessions live; a crash, a lost answer,
// or a session lost while a batch is being published repeats that batch.
//
// The parts: Sender shares the partitions (share.go), an owner paces the work on one partition
// (owner.go), and a delivery does it (locked.go, fenced.go).
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
	// lookEvery is how often a replica looks at the others, unasked; that one died is known at
	// once, see watch.
	lookEvery = time.Second
	// Backoff of a replica that cannot send: from the first to the last, doubled each time, with
	// jitter. The last bounds how long payments wait after Kafka is back.
	backoffMin = 250 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Publisher appends a batch to one partition of the topic; package kafka says what it promises.
type Publisher interface {
	Publish(ctx context.Context, partition int32, events []kafka.Event) (base int64, err error)
}

// Log tells how far a partition of the topic goes, and what is in it.
type Log interface {
	Reach(ctx context.Context, topic string, partition int32) error
	Range(ctx context.Context, topic string, partition int32) (kafka.Range, error)
	Beyond(ctx context.Context, topic string, from int32) (first, partitions int32, err error)
	Read(ctx context.Context, topic string, partition int32, from, to int64, each func(kafka.Record) error) error
}

// Config is what a Sender is made of.
type Config struct {
	Store *store.Store
	// Partitions set to the other mode are left alone.
	Delivery store.Delivery
	// For locked delivery.
	Publisher Publisher
	// For fenced delivery.
	Fencer  Fencer
	Log     Log
	Encoder kafka.Encoder
	// Payments in one batch; 0 takes BatchMaxDefault.
	BatchMax int
	// Offsets of the log that a step of a take-over reads; 0 takes 10,000.
	TailStep int
	// EndCheckEvery is about how often an idle owner looks at the end of its log; 0 takes 10 s.
	EndCheckEvery time.Duration
	Logger        *slog.Logger
	Metrics       *Metrics
	// What a test does at a point of fenced delivery; nil in operation.
	At func(partition int32, p Point)
}

// BatchMaxDefault is at the knee of the measured curve (facts, exactly-once section 5).
const BatchMaxDefault = 1000

// endedMax is how many owners may have ended before they are reaped; more wait, which only delays
// their being forgotten.
const endedMax = 64

// Sender is one replica of the sending side.
type Sender struct {
	Config
	owners map[int32]*owner
	ended  chan ended
	// Partitions that this replica gave up, and until when it leaves them to others.
	rested map[int32]time.Time
	// Partitions that nobody owns, and since when, as this replica saw it.
	free map[int32]time.Time
	// As last seen.
	known []store.Partition
	// Of database sessions.
	scarcity scarcity
	// This machine's clock; see noteClock.
	now func() time.Time

	// When a difference of the clocks was logged.
	clockLogged time.Time

	// A batch was sent since the last back-off.
	worked atomic.Bool

	// Ends the wait for news: an owner has ended.
	interrupt atomic.Pointer[context.CancelFunc]
}

// New returns a sender; Run sets it to work.
func New(c Config) *Sender {
	if c.BatchMax == 0 {
		c.BatchMax = BatchMaxDefault
	}
	s := &Sender{Config: c, now: time.Now, owners: map[int32]*owner{}, ended: make(chan ended, endedMax),
		rested: map[int32]time.Time{}, free: map[int32]time.Time{}}
	s.interrupt.Store(new(context.CancelFunc(func() {})))
	return s
}

// Run sends until ctx ends; then it finishes the passes in hand, gives the partitions back, and
// returns. A kill at any point is as safe.
func (s *Sender) Run(ctx context.Context) {
	defer s.leave(ctx)
	backoff := backoffMin
	for ctx.Err() == nil {
		if err := s.attend(ctx); err != nil && ctx.Err() == nil {
			if s.worked.Swap(false) { // It worked meanwhile: this is a new trouble.
				backoff = backoffMin
			}
			s.Logger.Warn("sender stands back", "error", err, "retry_in", backoff)
			s.standBack(ctx, jitter(backoff))
			backoff = min(2*backoff, backoffMax)
		}
	}
}

// attend counts this replica in and shares the partitions with the others until ctx ends, the
// database is lost, or most owners fail. Whoever counts is given a share; a replica that Kafka does
// not answer must not, or its partitions would be sent to by nobody.
func (s *Sender) attend(ctx context.Context) error {
	if n := len(s.known); n > 0 {
		p := s.known[rand.IntN(n)] // Another one each time: brokers differ.
		if err := s.reach(ctx, p.Topic, p.Number); err != nil {
			return err
		}
	}
	presence, err := s.Store.Register(ctx, s.Delivery)
	if store.SessionRefused(err) {
		s.Metrics.refused()
		s.Store.CloseIdle(ctx) // The next attempt may have what the pool does not use.
	}
	if err != nil {
		return err
	}
	defer presence.Deregister()
	s.Store.RequestRebalance(ctx) // Whoever has more than its share now gives some to us.
	clear(s.free)                 // What was seen before is out of date.
	watch := watch{store: s.Store}
	watched, unwatch := context.WithCancel(ctx)
	defer watch.running.Wait()
	defer unwatch()
	for {
		members, err := presence.Observe(ctx)
		if err != nil {
			return err
		}
		s.known = members.Partitions
		if err := s.mind(ctx, presence, members); err != nil {
			return err
		}
		if s.scarcity.scarce {
			members.Peer = 0 // Its session does more for a partition.
		}
		watch.follow(watched, members.Peer)
		s.share(ctx, members)
		if err := s.passOnNews(ctx, presence); err != nil {
			return err
		}
		gaveBack, err := s.reap()
		if gaveBack && ctx.Err() == nil {
			s.Store.RequestRebalance(ctx)
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// reachTimeout bounds the question whether a partition's leader answers: one that takes longer
// would let a batch fail, too.
const reachTimeout = 3 * time.Second

// reach tells whether a partition's leader answers this replica.
func (s *Sender) reach(ctx context.Context, topic string, partition int32) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	return s.Log.Reach(ctx, topic, partition)
}

// passOnNews wakes the owners whose partitions have new payments, until it is time to look again,
// or another replica asks to.
func (s *Sender) passOnNews(ctx context.Context, presence *store.Presence) error {
	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	s.interrupt.Store(&cancel)
	for ctx.Err() == nil && len(s.ended) == 0 {
		notification, err := presence.AwaitNotification(ctx)
		if err != nil || notification.Rebalance {
			return err
		}
		for _, p := range notification.Created {
			if o, ok := s.owners[p]; ok {
				o.wake()
			}
		}
	}
	return nil
}

// standBack waits out a back-off, out of the others' count, while owners that still work go on.
func (s *Sender) standBack(ctx context.Context, d time.Duration) {
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

// errGaveUp ends an owner whose passes failed maxFailures times in a row.
var errGaveUp = errors.New("gave the partition up")

// reap forgets owners that have ended, and tells whether there were any. The error is that of one
// that gave up, if most others do no better: then the fault is this replica's. Otherwise it is the
// partition's, and only that one rests.
func (s *Sender) reap() (gaveBack bool, gaveUp error) {
	for {
		select {
		case e := <-s.ended:
			s.forget(e)
			gaveBack = true
			if errors.Is(e.err, errGaveUp) && s.mostFail() {
				gaveUp = e.err
			}
		default:
			return gaveBack, gaveUp
		}
	}
}

// mostFail tells whether more partitions fail here than work, those that were given up just now
// among them.
func (s *Sender) mostFail() bool {
	failing, working := 0, 0
	for _, until := range s.rested {
		if time.Now().Before(until) {
			failing++
		}
	}
	for _, o := range s.owners {
		if o.failures.Load() > 0 {
			failing++
		} else {
			working++
		}
	}
	return failing > working
}

// forget drops an owner that has ended; its session is closed.
func (s *Sender) forget(e ended) {
	delete(s.owners, e.partition)
	s.Metrics.givenBack(e.partition)
	switch {
	case e.err == nil, errors.Is(e.err, store.ErrOwned):
	case store.SessionRefused(e.err):
		s.Metrics.refused()
		s.scarcity.refused(len(s.owners))
		s.Logger.Debug("session refused", "partition", e.partition, "error", e.err)
	case errors.Is(e.err, errHalted):
		s.Logger.Error("partition halted; see `paylatch partitions list`", "partition", e.partition, "error", e.err)
	default:
		s.rested[e.partition] = time.Now().Add(jitter(backoffMax))
		s.Logger.Info("partition given back", "partition", e.partition, "error", e.err)
	}
}

// leave gives every partition back, waits until the passes in hand are done, and tells the other
// replicas to take over.
func (s *Sender) leave(ctx context.Context) {
	for _, o := range s.owners {
		o.release()
	}
	for len(s.owners) > 0 {
		s.forget(<-s.ended)
	}
	// Later than that they look by themselves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookEvery)
	defer cancel()
	s.Store.RequestRebalance(ctx)
}

// jitter spreads d over 50 % to 100 %, so that replicas that failed together do not come back
// together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2)
}
