package kafka

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/test/parts"
)

// publish publishes a batch, which must succeed, and returns its first offset.
func publish(t testing.TB, l *Locked, partition int32, events []Event) int64 {
	t.Helper()
	base, err := l.Publish(bounded(t), partition, events)
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// TestLocked_Publish_ConsecutiveOffsets: an event is at the base offset plus its index in the
// batch, also if other clients write to the topic.
func TestLocked_Publish_ConsecutiveOffsets(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	l, events := newLocked(t, broker, topic), samples(t, 60)
	foreign := newClient(t, broker)
	defer foreign.Close()

	offsets := map[string]int64{}
	for i := range 3 {
		batch := events[20*i : 20*i+20]
		base := publish(t, l, 0, batch)
		if want := int64(20*i + i); base != want { // There is one foreign record before each batch.
			t.Errorf("batch %d: got offset %d, want %d", i, base, want)
		}
		for j, e := range batch {
			offsets[string(e.Key)] = base + int64(j)
		}
		record := &kgo.Record{Topic: topic, Value: []byte("foreign")}
		if err := foreign.ProduceSync(bounded(t), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range records(t, broker, topic, 0) {
		if want, ours := offsets[string(r.Key)]; ours && r.Offset != want {
			t.Errorf("event %s: got offset %d, want %d", r.Key, r.Offset, want)
		}
		delete(offsets, string(r.Key))
	}
	if len(offsets) > 0 {
		t.Errorf("got %d events that are not in the topic, want 0", len(offsets))
	}
}

// TestLocked_Publish_Concurrently: owners of different partitions share one publisher.
func TestLocked_Publish_Concurrently(t *testing.T) {
	t.Parallel()
	const partitions, batches, each = 6, 10, 15
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, partitions, nil)
	l, events := newLocked(t, broker, topic), samples(t, batches*each)
	var wg sync.WaitGroup
	for p := range int32(partitions) {
		wg.Go(func() {
			for i := range batches {
				base, err := l.Publish(bounded(t), p, events[each*i:each*i+each])
				if err != nil || base != int64(each*i) {
					t.Errorf("partition %d, batch %d: got base %d and error %v, want base %d", p, i, base, err, each*i)
				}
			}
		})
	}
	wg.Wait()
	for p := range int32(partitions) {
		wantRecords(t, broker, topic, p, events)
	}
}

// TestLocked_Publish_LargestBatch: a topic with the default max.message.bytes accepts a batch that
// Fit allows.
func TestLocked_Publish_LargestBatch(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	events := samples(t, 1000, largest)
	n := Fit(events)
	if n == len(events) {
		t.Fatal("got all events in one batch, want some left")
	}
	// The filler makes the batch exactly as large as allowed.
	size := 0
	for _, e := range events[:n] {
		size += e.size()
	}
	full := append(events[:n:n], Event{Key: []byte("filler")})
	full[n].Value = make([]byte, BatchBytesMax-size-full[n].size())
	if Fit(full) != n+1 {
		t.Fatalf("got %d events that fit, want %d", Fit(full), n+1)
	}
	publish(t, newLocked(t, broker, topic), 0, full)
	wantRecords(t, broker, topic, 0, full)
}

// TestLocked_Publish_Refused: no record of a batch that is refused is in the topic. The publisher
// can publish others.
func TestLocked_Publish_Refused(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, map[string]string{"max.message.bytes": "4000"})
	l, events := newLocked(t, broker, topic), samples(t, 10)
	if _, err := l.Publish(bounded(t), 0, events); !isRefused(err) {
		t.Errorf("got error %v, want a *RefusedError", err)
	}
	if got := records(t, broker, topic, 0); len(got) > 0 {
		t.Errorf("got %d records of a refused batch, want 0", len(got))
	}
	publish(t, l, 0, events[:1])
	wantRecords(t, broker, topic, 0, events[:1])
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

// TestLocked_Publish_NoTopic: a topic or partition that does not exist is not a refusal, since it
// may come back.
func TestLocked_Publish_NoTopic(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	ctx, cancel := context.WithTimeout(bounded(t), 3*time.Second)
	defer cancel()
	_, err := newLocked(t, broker, topic).Publish(ctx, 7, samples(t, 1))
	if err == nil || isRefused(err) {
		t.Errorf("no such partition: got error %v, want one that is not a refusal", err)
	}
	_, err = newLocked(t, broker, parts.Topic()).Publish(ctx, 0, samples(t, 1))
	if err == nil || isRefused(err) {
		t.Errorf("no such topic: got error %v, want one that is not a refusal", err)
	}
}

// TestLocked_Publish_BrokerAway: while the broker is away, Publish returns errors of unknown
// outcome. The same publisher works again when the broker is back.
func TestLocked_Publish_BrokerAway(t *testing.T) {
	t.Parallel()
	broker := parts.OwnKafka(t)
	topic := newTopic(t, broker.Addr, 1, nil)
	l, events := newLocked(t, broker.Addr, topic), samples(t, 20)
	publish(t, l, 0, events[:10])

	broker.Stop(t)
	for range 3 {
		ctx, cancel := context.WithTimeout(bounded(t), 2*time.Second)
		_, err := l.Publish(ctx, 0, events[10:])
		cancel()
		if err == nil || isRefused(err) {
			t.Fatalf("got error %v, want one that is not a refusal", err)
		}
	}
	fresh := newLocked(t, broker.Addr, topic) // It has never connected.
	ctx, cancel := context.WithTimeout(bounded(t), 2*time.Second)
	defer cancel()
	if _, err := fresh.Publish(ctx, 0, events[10:]); err == nil || isRefused(err) {
		t.Fatalf("got error %v, want one that is not a refusal", err)
	}

	broker.Start(t)
	for _, again := range []*Locked{l, fresh} {
		until(t, "published after the broker is back", func() bool {
			base, err := again.Publish(bounded(t), 0, events[10:])
			if err == nil && base < 10 {
				t.Errorf("got base %d, want 10 or more", base)
			}
			return err == nil
		})
	}
	wantRecords(t, broker.Addr, topic, 0, append(append([]Event{}, events...), events[10:]...))
}
