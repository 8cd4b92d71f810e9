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

// publish must succeed.
func publish(t testing.TB, l *Locked, partition int32, events []Event) int64 {
	t.Helper()
	base, err := l.Publish(bounded(t), partition, events)
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// What is recorded of a payment is base plus its place in the batch: that must be where it is, also in a topic with records of others.
func TestLocked_Publish_ConsecutiveOffsets(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	l, events := newLocked(t, broker, topic), samples(t, 60)
	foreign := judge(t, broker)
	defer foreign.Close()

	where := map[string]int64{}
	for i := range 3 {
		batch := events[20*i : 20*i+20]
		base := publish(t, l, 0, batch)
		if want := int64(20*i + i); base != want { // The foreign records before this batch moved it.
			t.Errorf("batch %d at %d, want %d", i, base, want)
		}
		for j, e := range batch {
			where[string(e.Key)] = base + int64(j)
		}
		if err := foreign.ProduceSync(bounded(t), &kgo.Record{Topic: topic, Value: []byte("foreign")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range records(t, broker, topic, 0) {
		if want, ours := where[string(r.Key)]; ours && r.Offset != want {
			t.Errorf("event %s is at %d, want %d", r.Key, r.Offset, want)
		}
		delete(where, string(r.Key))
	}
	if len(where) > 0 {
		t.Errorf("%d events are not in the topic", len(where))
	}
}

// Owners of different partitions share one publisher.
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
					t.Errorf("partition %d, batch %d: base %d, error %v", p, i, base, err)
				}
			}
		})
	}
	wg.Wait()
	for p := range int32(partitions) {
		wantRecords(t, broker, topic, p, events)
	}
}

// A batch that Fit lets pass is taken by a topic with Kafka's own max.message.bytes.
func TestLocked_Publish_LargestBatch(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	events := samples(t, 1000, largest)
	n := Fit(events)
	if n == len(events) {
		t.Fatal("all fit into one batch: the test wants more")
	}
	// Fill it up to the byte, with an event that is larger than any of ours.
	size := 0
	for _, e := range events[:n] {
		size += e.size()
	}
	full := append(events[:n:n], Event{Key: []byte("filler")})
	full[n].Value = make([]byte, BatchBytesMax-size-full[n].size())
	if Fit(full) != n+1 {
		t.Fatal("the filled batch does not fit")
	}
	publish(t, newLocked(t, broker, topic), 0, full)
	wantRecords(t, broker, topic, 0, full)
}

// A refusal is about the batch itself, and nothing of it is in the topic; the same publisher goes on with others.
func TestLocked_Publish_Refused(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, map[string]string{"max.message.bytes": "4000"})
	l, events := newLocked(t, broker, topic), samples(t, 10)
	if _, err := l.Publish(bounded(t), 0, events); !isRefused(err) {
		t.Errorf("error %v, want a *Refused", err)
	}
	if got := records(t, broker, topic, 0); len(got) > 0 {
		t.Errorf("%d records of a refused batch are in the topic", len(got))
	}
	publish(t, l, 0, events[:1])
	wantRecords(t, broker, topic, 0, events[:1])
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*Refused](err)
	return ok
}

// A topic or a partition that is not there may come back: never a refusal.
func TestLocked_Publish_NoTopic(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	ctx, cancel := context.WithTimeout(bounded(t), 3*time.Second)
	defer cancel()
	if _, err := newLocked(t, broker, topic).Publish(ctx, 7, samples(t, 1)); err == nil || isRefused(err) {
		t.Errorf("no such partition: error %v", err)
	}
	if _, err := newLocked(t, broker, parts.Topic()).Publish(ctx, 0, samples(t, 1)); err == nil || isRefused(err) {
		t.Errorf("no such topic: error %v", err)
	}
}

// A broker that is away is an error of unknown outcome, told before the context ends for good; the same publisher works again when the broker
// is back, with its log.
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
			t.Fatalf("the broker is away, and the error is %v", err)
		}
	}
	fresh := newLocked(t, broker.Addr, topic) // One that has never seen the broker.
	ctx, cancel := context.WithTimeout(bounded(t), 2*time.Second)
	defer cancel()
	if _, err := fresh.Publish(ctx, 0, events[10:]); err == nil || isRefused(err) {
		t.Fatalf("the broker is away, and the error is %v", err)
	}

	broker.Start(t)
	for _, again := range []*Locked{l, fresh} {
		until(t, "published after the broker is back", func() bool {
			base, err := again.Publish(bounded(t), 0, events[10:])
			if err == nil && base < 10 {
				t.Errorf("base %d: the log went back", base)
			}
			return err == nil
		})
	}
	wantRecords(t, broker.Addr, topic, 0, append(append([]Event{}, events...), events[10:]...))
}
