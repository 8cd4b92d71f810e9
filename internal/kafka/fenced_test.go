package kafka

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/test/parts"
)

const fencedTimeout = 8 * time.Second

// fence returns the producer of partition 0, with a transactional id of the topic.
func fence(t testing.TB, broker, topic string) *Producer {
	t.Helper()
	return fenceAs(t, broker, topic, topic+"-0")
}

func fenceAs(t testing.TB, broker, topic, transactionalID string) *Producer {
	t.Helper()
	p, err := NewFencer(brokers.At(broker), topic, fencedTimeout).Fence(bounded(t), 0, transactionalID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// emit publishes a batch and commits it.
func emit(t testing.TB, p *Producer, next int64, events []Event) {
	t.Helper()
	if err := p.Produce(bounded(t), next, events); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// end waits until no transaction is open, and returns the end of the log.
func end(t testing.TB, broker, topic string) int64 {
	t.Helper()
	var r Range
	until(t, "no transaction is open", func() bool {
		var err error
		r, err = newCluster(t, broker).Range(bounded(t), topic, 0)
		return err == nil && r.StableEnd == r.End
	})
	return r.End
}

// seen returns the keys and offsets of all committed records.
func seen(t testing.TB, broker, topic string) (keys []string, offsets []int64) {
	t.Helper()
	err := newCluster(t, broker).Read(bounded(t), topic, 0, 0, end(t, broker, topic), func(r Record) error {
		keys, offsets = append(keys, string(r.Key)), append(offsets, r.Offset)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys, offsets
}

// wantSeen checks that exactly these events are committed, in this order.
func wantSeen(t testing.TB, broker, topic string, want ...Event) {
	t.Helper()
	keys, _ := seen(t, broker, topic)
	if len(keys) != len(want) {
		t.Fatalf("got %d committed records, want %d: %v", len(keys), len(want), keys)
	}
	for i, k := range keys {
		if k != string(want[i].Key) {
			t.Errorf("record %d: got %s, want %s", i, k, want[i].Key)
		}
	}
}

// TestProducer_Offsets: a batch takes one offset for each event, and one for its marker.
func TestProducer_Offsets(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	p, events := fence(t, broker, topic), samples(t, 8)
	emit(t, p, 0, events[:5])
	emit(t, p, 6, events[5:])
	if got := end(t, broker, topic); got != 10 {
		t.Errorf("got end %d, want 10", got)
	}
	_, offsets := seen(t, broker, topic)
	for i, want := range []int64{0, 1, 2, 3, 4, 6, 7, 8} {
		if i >= len(offsets) || offsets[i] != want {
			t.Fatalf("got offsets %v, want 0-4 and 6-8", offsets)
		}
	}
	wantSeen(t, broker, topic, events...)
}

// TestFence_Before: after Fence, the earlier producer can neither append nor commit. Its open
// transaction is aborted.
func TestFence_Before(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]bool{"BeforeProduce": false, "BeforeCommit": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := parts.Kafka(t)
			topic := newTopic(t, broker, 1, nil)
			old, events := fence(t, broker, topic), samples(t, 9)
			emit(t, old, 0, events[:3])
			next := int64(4)
			if open {
				if err := old.Produce(bounded(t), next, events[3:6]); err != nil {
					t.Fatal(err)
				}
				next += 4 // Aborted records and tsuccessor marker have offsets, too.
			}
			successor := fence(t, broker, topic)
			if got := end(t, broker, topic); got != next {
				t.Fatalf("after the fence: got end %d, want %d", got, next)
			}
			if !open {
				if err := old.Produce(bounded(t), next, events[3:6]); err == nil {
					t.Error("fenced producer: got no error from Produce, want one")
				}
			}
			if err := old.Commit(bounded(t)); err == nil {
				t.Error("fenced producer: got no error from Commit, want one")
			}
			emit(t, successor, next, events[6:])
			wantSeen(t, broker, topic, append(events[:3:3], events[6:]...)...)
		})
	}
}

// TestFence_Other: Fence does not affect a producer with another transactional id.
func TestFence_Other(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	p, events := fence(t, broker, topic), samples(t, 2)
	if err := p.Produce(bounded(t), 0, events); err != nil {
		t.Fatal(err)
	}
	fenceAs(t, broker, topic, topic+"-1")
	if err := p.Commit(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, broker, topic, events...)
}

// TestProducer_Continuity: records at other offsets than expected are an error, and are never
// committed. Another client has written to the log.
func TestProducer_Continuity(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	p, events := fence(t, broker, topic), samples(t, 4)
	publish(t, newLocked(t, broker, topic), 0, events[:1])
	if err := p.Produce(bounded(t), 0, events[1:]); err == nil {
		t.Fatal("got no error, want one")
	}
	p.Close()
	fence(t, broker, topic)
	wantSeen(t, broker, topic, events[0])
}

// TestProducer_Refused: no record of a batch that is refused is committed.
func TestProducer_Refused(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, map[string]string{"max.message.bytes": "4000"})
	p, events := fence(t, broker, topic), samples(t, 10)
	if err := p.Produce(bounded(t), 0, events); !isRefused(err) {
		t.Errorf("got error %v, want a *RefusedError", err)
	}
	p.Close()
	successor := fence(t, broker, topic)
	emit(t, successor, end(t, broker, topic), events[:1]) // A real broker writes a marker even then.
	wantSeen(t, broker, topic, events[0])
}

// TestProducer_BrokerAway: if the broker is gone or silent, a producer fails when its context ends,
// and Close does not wait. Another replica can take the partition.
func TestProducer_BrokerAway(t *testing.T) {
	t.Parallel()
	broker := parts.OwnKafka(t)
	topic := newTopic(t, broker.Addr, 1, nil)
	p := fence(t, broker.Addr, topic)
	broker.Stop(t)
	ctx, cancel := context.WithTimeout(bounded(t), time.Second)
	defer cancel()
	if err := p.Produce(ctx, 0, samples(t, 3)); err == nil {
		t.Error("Produce without a broker: got no error, want one")
	}
	closed := make(chan struct{})
	go func() {
		p.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(waitTimeout):
		t.Fatal("Close waits for a broker that is away")
	}

	// It accepts connections and never responds.
	silent, err := new(net.ListenConfig).Listen(bounded(t), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ctx, cancel = context.WithTimeout(bounded(t), time.Second)
	defer cancel()
	_, err = NewFencer(brokers.At(silent.Addr().String()), topic, fencedTimeout).Fence(ctx, 0, "payments-0")
	if err == nil {
		t.Error("Fence without a broker: got no error, want one")
	}
}

// TestCluster_Read: Read passes aborted records and markers, and returns from ≤ offset < to. If it
// cannot reach to, it fails.
func TestCluster_Read(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	events := samples(t, 6)
	emit(t, fence(t, broker, topic), 0, events[:2]) // 0, 1, marker at 2.
	if err := fence(t, broker, topic).Produce(bounded(t), 3, events[2:4]); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, broker)
	var r Range
	until(t, "the open transaction shows", func() bool {
		var err error
		r, err = c.Range(bounded(t), topic, 0)
		return err == nil && r.End == 5
	})
	if r.StableEnd != 3 || r.Start != 0 {
		t.Errorf("got range %+v, want stable end 3 and start 0", r)
	}
	last := fence(t, broker, topic) // It aborts 3 and 4, with a marker at 5.
	began := time.Now().Add(-time.Minute)
	emit(t, last, 6, events[4:]) // 6, 7, marker at 8.
	end(t, broker, topic)
	for _, row := range []struct {
		from, to int64
		want     []int64
	}{
		{0, 9, []int64{0, 1, 6, 7}},
		{0, 1, []int64{0}},
		{1, 7, []int64{1, 6}},
		{2, 6, nil},
		{7, 9, []int64{7}},
		{8, 9, nil},
		{9, 9, nil},
	} {
		var got []int64
		if err := c.Read(bounded(t), topic, 0, row.from, row.to, func(r Record) error {
			got = append(got, r.Offset)
			if r.At.Before(began) || len(r.Headers) == 0 || len(r.Value) == 0 {
				t.Errorf("record at %d: got %+v, want time, headers and value", r.Offset, r)
			}
			return nil
		}); err != nil {
			t.Errorf("from %d to %d: %v", row.from, row.to, err)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("from %d to %d: got %v, want %v", row.from, row.to, got, row.want)
		}
	}
	ctx, cancel := context.WithTimeout(bounded(t), time.Second)
	defer cancel()
	if err := c.Read(ctx, topic, 0, 0, 10, func(Record) error { return nil }); err == nil {
		t.Error("a position beyond the end: got no error, want one")
	}
	if err := c.Read(bounded(t), topic, 0, 0, 9, func(Record) error { return context.Canceled }); err == nil {
		t.Error("an error of the callback: got no error, want it")
	}
}
