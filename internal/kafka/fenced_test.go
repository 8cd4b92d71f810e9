package kafka

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/paylatch/paylatch/test/parts"
)

const fencedTimeout = 8 * time.Second

// fence makes the producer of partition 0, under a transactional id of the topic's own.
func fence(t testing.TB, broker, topic string) *Producer {
	t.Helper()
	return fenceAs(t, broker, topic, topic+"-0")
}

func fenceAs(t testing.TB, broker, topic, transactionalID string) *Producer {
	t.Helper()
	p, err := NewFencer([]string{broker}, topic, fencedTimeout).Fence(bounded(t), 0, transactionalID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// emit publishes a batch that must be in the log for good.
func emit(t testing.TB, p *Producer, next int64, events []Event) {
	t.Helper()
	if err := p.Produce(bounded(t), next, events); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// end is how far the log goes, once every transaction in it is decided.
func end(t testing.TB, broker, topic string) int64 {
	t.Helper()
	var r Range
	until(t, "every transaction is decided", func() bool {
		var err error
		r, err = newCluster(t, broker).Range(bounded(t), topic, 0)
		return err == nil && r.StableEnd == r.End
	})
	return r.End
}

// seen are the keys that a read_committed reader finds from the start to the end, and where.
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

// wantSeen wants just these events to be committed, in this order.
func wantSeen(t testing.TB, broker, topic string, want ...Event) {
	t.Helper()
	keys, _ := seen(t, broker, topic)
	if len(keys) != len(want) {
		t.Fatalf("%d records are committed, want %d: %v", len(keys), len(want), keys)
	}
	for i, k := range keys {
		if k != string(want[i].Key) {
			t.Errorf("record %d is %s, want %s", i, k, want[i].Key)
		}
	}
}

// A batch takes as many offsets as it has events, and one for its marker; the next one goes on there.
func TestProducer_Offsets(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	p, events := fence(t, broker, topic), samples(t, 8)
	emit(t, p, 0, events[:5])
	emit(t, p, 6, events[5:])
	if got := end(t, broker, topic); got != 10 {
		t.Errorf("the log ends at %d, want 10", got)
	}
	_, offsets := seen(t, broker, topic)
	for i, want := range []int64{0, 1, 2, 3, 4, 6, 7, 8} {
		if i >= len(offsets) || offsets[i] != want {
			t.Fatalf("offsets %v, want 0-4 and 6-8", offsets)
		}
	}
	wantSeen(t, broker, topic, events...)
}

// After Fence the producer before can neither append nor commit, and what it left open is aborted.
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
				next += 4 // Aborted records take offsets, and their marker, too.
			}
			heir := fence(t, broker, topic)
			if got := end(t, broker, topic); got != next {
				t.Fatalf("after the fence the log ends at %d, want %d", got, next)
			}
			if !open {
				if err := old.Produce(bounded(t), next, events[3:6]); err == nil {
					t.Error("the fenced producer produced")
				}
			}
			if err := old.Commit(bounded(t)); err == nil {
				t.Error("the fenced producer committed")
			}
			emit(t, heir, next, events[6:])
			wantSeen(t, broker, topic, append(events[:3:3], events[6:]...)...)
		})
	}
}

// The producer of another partition is not touched: its transactional id is another.
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

// Records that are not where the table says are an error, and are never committed: somebody else has written.
func TestProducer_Continuity(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	p, events := fence(t, broker, topic), samples(t, 4)
	publish(t, newLocked(t, broker, topic), 0, events[:1])
	if err := p.Produce(bounded(t), 0, events[1:]); err == nil {
		t.Fatal("no error")
	}
	p.Close()
	fence(t, broker, topic)
	wantSeen(t, broker, topic, events[0])
}

// A refusal is about the batch itself; nothing of it is committed.
func TestProducer_Refused(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, map[string]string{"max.message.bytes": "4000"})
	p, events := fence(t, broker, topic), samples(t, 10)
	if err := p.Produce(bounded(t), 0, events); !isRefused(err) {
		t.Errorf("error %v, want a *Refused", err)
	}
	p.Close()
	heir := fence(t, broker, topic)
	emit(t, heir, end(t, broker, topic), events[:1]) // A real broker writes a marker even so.
	wantSeen(t, broker, topic, events[0])
}

// A producer whose broker is gone, or silent, fails in bounded time, and its Close waits for nobody: the partition must go to another replica.
func TestProducer_BrokerAway(t *testing.T) {
	t.Parallel()
	broker := parts.OwnKafka(t)
	topic := newTopic(t, broker.Addr, 1, nil)
	p := fence(t, broker.Addr, topic)
	broker.Stop(t)
	ctx, cancel := context.WithTimeout(bounded(t), time.Second)
	defer cancel()
	if err := p.Produce(ctx, 0, samples(t, 3)); err == nil {
		t.Error("produced without a broker")
	}
	closed := make(chan struct{})
	go func() {
		p.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close waits for a broker that is away")
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0") // Takes connections and never answers.
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ctx, cancel = context.WithTimeout(bounded(t), time.Second)
	defer cancel()
	if _, err := NewFencer([]string{silent.Addr().String()}, topic, fencedTimeout).Fence(ctx, 0, "nobody"); err == nil {
		t.Error("fenced without a broker")
	}
}

// Read goes by positions: over aborted records and markers, from where it is asked to, up to but not including to; a position that does not come is an error.
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
		t.Errorf("with a transaction open from 3 on, the range is %+v", r)
	}
	last := fence(t, broker, topic) // Aborts: 3, 4, marker at 5.
	began := time.Now().Add(-time.Minute)
	emit(t, last, 6, events[4:]) // 6, 7, marker at 8.
	end(t, broker, topic)
	for _, row := range []struct {
		from, to int64
		want     []int64
	}{{0, 9, []int64{0, 1, 6, 7}}, {0, 1, []int64{0}}, {1, 7, []int64{1, 6}}, {2, 6, nil}, {7, 9, []int64{7}}, {8, 9, nil}, {9, 9, nil}} {
		var got []int64
		if err := c.Read(bounded(t), topic, 0, row.from, row.to, func(r Record) error {
			got = append(got, r.Offset)
			if r.At.Before(began) || len(r.Headers) == 0 || len(r.Value) == 0 {
				t.Errorf("record at %d is not whole: %+v", r.Offset, r)
			}
			return nil
		}); err != nil {
			t.Errorf("from %d to %d: %v", row.from, row.to, err)
		}
		if len(got) != len(row.want) {
			t.Errorf("from %d to %d: %v, want %v", row.from, row.to, got, row.want)
			continue
		}
		for i := range got {
			if got[i] != row.want[i] {
				t.Errorf("from %d to %d: %v, want %v", row.from, row.to, got, row.want)
			}
		}
	}
	ctx, cancel := context.WithTimeout(bounded(t), time.Second)
	defer cancel()
	if err := c.Read(ctx, topic, 0, 0, 10, func(Record) error { return nil }); err == nil {
		t.Error("an end that is not there was reached")
	}
	if err := c.Read(bounded(t), topic, 0, 0, 9, func(Record) error { return context.Canceled }); err == nil {
		t.Error("the reader's own error is lost")
	}
}
