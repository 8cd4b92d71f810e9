package sender

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// silentNetwork is the network between one replica and Kafka. While it is silent, nothing is
// refused and nothing responds, as behind a firewall that has lost its state. Each request lasts as
// long as its caller waits.
type silentNetwork struct {
	silent atomic.Bool
	// These requests to Kafka got no response.
	asked atomic.Int64
}

func (l *silentNetwork) carry(ctx context.Context, work func() error) error {
	if !l.silent.Load() {
		return work()
	}
	ctx, cancel := context.WithTimeout(ctx, store.PublishTimeout) // As the clients give up.
	defer cancel()
	<-ctx.Done()
	return ctx.Err()
}

// through makes a replica reach Kafka only over the network.
func (l *silentNetwork) through(c *Config) {
	c.Log, c.Fencer, c.Publisher = lineLog{c.Log, l}, lineFencer{c.Fencer, l}, nil
}

type lineLog struct {
	Log
	*silentNetwork
}

func (l lineLog) Ping(ctx context.Context, topic string, partition int32) error {
	if l.silent.Load() {
		l.asked.Add(1)
	}
	return l.carry(ctx, func() error { return l.Log.Ping(ctx, topic, partition) })
}

func (l lineLog) Range(ctx context.Context, topic string, partition int32) (g kafka.Range, err error) {
	err = l.carry(ctx, func() (err error) { g, err = l.Log.Range(ctx, topic, partition); return err })
	return g, err
}

type lineFencer struct {
	Fencer
	*silentNetwork
}

func (l lineFencer) Fence(ctx context.Context, partition int32, transactionalID string) (p Producer, err error) {
	err = l.carry(ctx, func() (err error) { p, err = l.Fencer.Fence(ctx, partition, transactionalID); return err })
	if err != nil {
		return nil, err
	}
	return lineProducer{p, l.silentNetwork}, nil
}

type lineProducer struct {
	Producer
	*silentNetwork
}

func (l lineProducer) Produce(ctx context.Context, next int64, events []kafka.Event) error {
	return l.carry(ctx, func() error { return l.Producer.Produce(ctx, next, events) })
}

// Kafka no longer responds to one of two replicas. That one releases its partitions, deregisters,
// and takes none while that lasts, however often it tries. The other one sends to all partitions
// and releases none. When Kafka responds again, both share.
func TestSender_KafkaSilentForOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, nil)
	load := r.load(100)
	var l silentNetwork
	victim, other := r.replica(r.inFenced(), l.through), r.replica(r.inFenced())
	r.run(victim)
	r.run(other)
	r.wantShares(2, victim, other)
	load.more(50)

	l.silent.Store(true)
	until(t, "it has released all partitions", func() bool {
		return r.count(`select count(*) `+sessionsOfReplicas) == 1 &&
			other.value("paylatch_sender_partitions_owned") == 4
	})
	for from := l.asked.Load(); l.asked.Load() < from+4; time.Sleep(10 * time.Millisecond) {
		if n := r.count(`select count(*) ` + sessionsOfReplicas); n != 1 {
			t.Fatalf("%d replicas count", n)
		}
		if n := other.value("paylatch_sender_partitions_owned"); n != 4 {
			t.Fatalf("the one that works owns %v partitions", n)
		}
	}
	load.more(50)
	r.allSentSoFar()

	l.silent.Store(false)
	r.wantShares(2, victim, other)
	load.end()
	r.verdict()
}

// allSentSoFar waits until the present payments are sent.
func (r *rig) allSentSoFar() {
	r.t.Helper()
	last := r.count(`select max(seq) from payments`)
	until(r.t, "what was there is sent", func() bool {
		return r.count(`select count(*) from payments where status = 'created' and seq <= $1`, last) == 0
	})
}

// stuck fails all batches of one partition, and remembers the partition of the last request.
type stuck struct {
	Publisher
	partition *atomic.Int32
	last      *atomic.Int32
}

var errStuck = errors.New("stuck")

func (s stuck) Publish(ctx context.Context, partition int32, events []kafka.Event) (int64, error) {
	s.last.Store(partition)
	if s.partition.Load() == partition {
		return 0, errStuck
	}
	return s.Publisher.Publish(ctx, partition, events)
}

// The owner of one partition cannot serve it. That concerns only this partition. The replica stays
// registered, is notified of all other partitions, and releases this one again and again. Another
// replica, whose share is full, takes it.
func TestSender_OnePartitionStuck(t *testing.T) {
	t.Parallel()
	r := newRig(t, 6, nil)
	load := r.load(100)
	var at, last atomic.Int32
	at.Store(-1)
	victim := r.replica(func(c *Config) { c.Publisher = stuck{c.Publisher, &at, &last} })
	r.run(victim)
	r.wantShares(6, victim)
	counted := r.count(`select min(pid) ` + sessionsOfReplicas)
	load.more(50)

	at.Store(last.Load())
	before := victim.failed()
	until(t, "it has released the partition twice", func() bool { return victim.failed() >= before+2*maxFailures })
	if n := r.count(`select min(pid) ` + sessionsOfReplicas); n != counted {
		t.Error("the replica backed off from all partitions because of one of them")
	}
	if n := r.unsent(at.Load()); n == 0 {
		t.Error("none waits there: nothing was tested")
	}

	other := r.replica()
	r.run(other)
	load.end() // Either of the two has the other partitions.
	r.verdict()
}

// failed counts the batches that failed.
func (s replica) failed() int {
	families, err := s.registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() != "paylatch_sender_passes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == "failed" {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// A payment that no sender can send halts its partition, and the reason names the row. The other
// partitions go on.
func TestSender_PoisonPayment(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		bend func(*rig, *Config)
		word string
	}{
		"PartyMissing": {func(r *rig, c *Config) {
			r.exec(`alter table parties disable trigger all`)
			r.exec(`delete from parties where party_id = 'lost'`)
			c.Store = r.open(r.url) // One that does not remember it.
		}, "is missing"},
		"TooLarge": {
			func(_ *rig, c *Config) { c.Encoder = kafka.NewEncoder("/" + strings.Repeat("x", 1<<14)) },
			"no event can be made: payment ",
		},
	} {
		for _, delivery := range []store.Delivery{store.DeliveryLocked, store.DeliveryFenced} {
			t.Run(name+"/"+string(delivery), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, 2, nil)
				r.create(0, 1, func(c *payment.Content) { c.Originator.ID = "lost" })
				after := r.create(0, 3)
				changes := []func(*Config){func(c *Config) { row.bend(r, c) }}
				if delivery == store.DeliveryFenced {
					changes = append(changes, r.inFenced())
				}
				r.run(r.replica(changes...))
				until(t, "the partition halts", func() bool { return r.row(0).State == store.StateHalted })
				if reason := r.row(0).Reason; !strings.Contains(reason, row.word) {
					t.Errorf("the reason is %q, want %q in it", reason, row.word)
				}
				r.wantUnsent(0, 1+len(after))
				if name == "PartyMissing" {
					fit := r.create(1, 3)
					r.allSentIn(1)
					r.wantInOrder(1, fit)
				}
			})
		}
	}
}

// allSentIn waits until no payment of the partition is unsent.
func (r *rig) allSentIn(partition int32) {
	r.t.Helper()
	until(r.t, "all of the partition are sent", func() bool { return r.unsent(partition) == 0 })
}
