package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/paylatch/paylatch/test/parts"
)

// hang creates a topic with a log like that of a lost marker: events from offset 0 on in an open
// transaction, which the coordinator does not have, so that no Fence ends it.
//
// A real broker loses a marker if it is killed at the right moment, which a test cannot choose.
// With a real broker, a producer creates the same log by not adding the partition at the
// coordinator. The broker accepts that while its verification (KIP-890) is off, which does not
// affect other tests.
func hang(t *testing.T, events []Event) (broker, topic string) {
	t.Helper()
	if !parts.InDocker(t) {
		losing := parts.LosingKafka(t)
		topic = newTopic(t, losing.Addr, 1, nil)
		losing.LoseNext()
		emit(t, fence(t, losing.Addr, topic), 0, events)
		if !losing.Lost() {
			t.Fatal("got no lost marker, want one")
		}
		return losing.Addr, topic
	}
	broker = parts.Kafka(t)
	topic = newTopic(t, broker, 1, nil)
	off, p := "false", fence(t, broker, topic)
	config := kadm.AlterConfig{Op: kadm.SetConfig, Name: "transaction.partition.verification.enable", Value: &off}
	responses, err := kadm.NewClient(p.client).AlterBrokerConfigs(bounded(t), []kadm.AlterConfig{config})
	if err != nil || responses[0].Err != nil {
		t.Fatal(err, responses)
	}
	produceUnregistered(t, broker, p, events)
	return broker, topic
}

// produceUnregistered appends the events in a transaction of the producer. It uses the last version
// of the request that does not add the partition to the transaction at the coordinator.
func produceUnregistered(t *testing.T, broker string, p *Producer, events []Event) {
	t.Helper()
	id, epoch, err := p.client.ProducerID(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	n, now := int32(len(events)), time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1 << 4, // Transactional.
		LastOffsetDelta: n - 1, NumRecords: n, FirstTimestamp: now, MaxTimestamp: now, ProducerID: id,
		ProducerEpoch: epoch,
	}
	for i, e := range events {
		r := kmsg.Record{OffsetDelta: int32(i), Key: e.Key, Value: e.Value}
		for _, h := range e.Headers {
			r.Headers = append(r.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // Without the length itself: one byte while it is 0.
		batch.Records = r.AppendTo(batch.Records)
	}
	batch.Length = int32(len(batch.AppendTo(nil)) - 12) // Without base offset and length.
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	as, _ := p.client.OptValue(kgo.TransactionalID).(string)
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis, request.TransactionID = -1, 5000, &as
	partition := kmsg.ProduceRequestTopicPartition{Records: batch.AppendTo(nil)}
	request.Topics = []kmsg.ProduceRequestTopic{
		{Topic: p.topic, Partitions: []kmsg.ProduceRequestTopicPartition{partition}},
	}

	client := newClient(t, broker, kgo.MaxVersions(kversion.V3_8_0()))
	defer client.Close()
	metadata, err := kadm.NewClient(client).Metadata(bounded(t), p.topic)
	if err != nil {
		t.Fatal(err)
	}
	leader := client.Broker(int(metadata.Topics[p.topic].Partitions[0].Leader))
	until(t, "the verification is off", func() bool {
		response, err := request.RequestWith(bounded(t), leader)
		if err != nil {
			t.Fatal(err)
		}
		err = kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
		if err != nil && !errors.Is(err, kerr.TransactionAbortable) { // The setting takes a moment.
			t.Fatal(err)
		}
		return err == nil
	})
}

// TestProducer_EndHanging commits or aborts a transaction that an earlier producer left open. The
// log continues after its marker. The fence alone does not end the transaction.
func TestProducer_EndHanging(t *testing.T) {
	t.Parallel()
	for name, commit := range map[string]bool{"Commit": true, "Abort": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := samples(t, 5)
			broker, topic := hang(t, events[:3])
			successor := fence(t, broker, topic)
			r, err := newCluster(t, broker).Range(bounded(t), topic, 0)
			if err != nil || r.StableEnd != 0 || r.End != 3 {
				t.Fatalf("got range %+v and error %v, want an open transaction from 0 to 3", r, err)
			}
			want := fmt.Sprintf("open there is: producer id %d, epoch ", successor.id)
			err = fenceAs(t, broker, topic, "foreign-"+topic).EndHanging(bounded(t), commit)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("producer of another id: got error %v, want %q in it", err, want)
			}
			if err := successor.EndHanging(bounded(t), commit); err != nil {
				t.Fatal(err)
			}
			committed := events
			if !commit {
				committed = events[3:]
			}
			if got := end(t, broker, topic); got != 4 {
				t.Fatalf("got end %d, want 4", got)
			}
			emit(t, successor, 4, events[3:])
			wantSeen(t, broker, topic, committed...)
		})
	}
}

// TestProducer_EndHanging_InProgress: a transaction in progress is not ended. A zombie that was
// fenced does not end it: fencing does not cover markers, and its successor's commit would still
// succeed. Its own producer does not end it either.
func TestProducer_EndHanging_InProgress(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	events := samples(t, 6)
	zombie := fence(t, broker, topic)
	successor := fence(t, broker, topic)
	for i, batch := range [][]Event{events[:3], events[3:]} { // After a commit the epoch is another one.
		if err := successor.Produce(bounded(t), int64(4*i), batch); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*Producer{zombie, successor} {
			if err := p.EndHanging(bounded(t), false); err == nil {
				t.Error("got no error, want one: the transaction is in progress")
			}
		}
		if err := successor.Commit(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	wantSeen(t, broker, topic, events...)
}

// TestProducer_EndHanging_Late has a zombie that writes its marker late: its successor has ended
// the transaction and begun another. A real broker refuses the marker, because its epoch is old.
// kfake accepts every marker, so the check needs a real broker.
func TestProducer_EndHanging_Late(t *testing.T) {
	t.Parallel()
	events := samples(t, 6)
	broker, topic := hang(t, events[:3])
	zombie := fence(t, broker, topic)
	open, err := zombie.openTransactions(bounded(t))
	if err != nil || len(open) != 1 {
		t.Fatal(open, err)
	}
	successor := fence(t, broker, topic)
	if err := successor.EndHanging(bounded(t), true); err != nil {
		t.Fatal(err)
	}
	if err := successor.Produce(bounded(t), 4, events[3:]); err != nil {
		t.Fatal(err)
	}
	if parts.InDocker(t) {
		err := zombie.writeMarker(bounded(t), open[zombie.id], false)
		if !errors.Is(err, kerr.InvalidProducerEpoch) {
			t.Errorf("got error %v, want %v", err, kerr.InvalidProducerEpoch)
		}
	}
	if err := successor.Commit(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, broker, topic, events...)
}

// TestProducer_AwaitStable: AwaitStable returns nil only if no transaction is open. It fails if one
// stays open, if a marker is lost, and if the broker does not respond.
func TestProducer_AwaitStable(t *testing.T) {
	t.Parallel()
	t.Run("MarkerLost", func(t *testing.T) {
		t.Parallel()
		events := samples(t, 3)
		broker, topic := hang(t, events)
		p := fence(t, broker, topic)
		if err := p.AwaitStable(bounded(t), 4); err == nil {
			t.Fatal("marker lost: got no error, want one")
		}
		if err := p.EndHanging(bounded(t), true); err != nil {
			t.Fatal(err)
		}
		if err := p.AwaitStable(bounded(t), 4); err != nil {
			t.Error(err)
		}
	})
	t.Run("MarkerComes", func(t *testing.T) {
		t.Parallel()
		broker := parts.Kafka(t)
		topic := newTopic(t, broker, 1, nil)
		p, other := fence(t, broker, topic), fenceAs(t, broker, topic, "other-"+topic)
		if err := p.AwaitStable(bounded(t), 0); err != nil {
			t.Errorf("empty log: got error %v, want none", err)
		}
		if err := p.Produce(bounded(t), 0, samples(t, 2)); err != nil {
			t.Fatal(err)
		}
		if err := other.AwaitStable(bounded(t), 3); err == nil {
			t.Fatal("open transaction: got no error, want one")
		}
		if err := p.Commit(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if err := p.AwaitStable(bounded(t), 3); err != nil {
			t.Error(err)
		}
	})
	t.Run("BrokerSilent", func(t *testing.T) {
		t.Parallel()
		cluster, addr := newFake(t, 1)
		p := fence(t, addr, fakeTopic)
		silent := make(chan struct{})
		defer close(silent)
		cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			cluster.SleepControl(func() { <-silent })
			return nil, nil, false
		})
		if err := p.AwaitStable(bounded(t), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// TestProducer_LostMarkerIsExtended shows why nothing may be produced before AwaitStable. If a
// marker is lost, the next transaction of the same id extends the first, and its abort aborts both.
func TestProducer_LostMarkerIsExtended(t *testing.T) {
	t.Parallel()
	events := samples(t, 5)
	broker, topic := hang(t, events[:3])
	p := fence(t, broker, topic)
	if err := p.Produce(bounded(t), 4, events[3:]); err == nil {
		t.Error("Produce without a marker: got no error, want one")
	}
	fence(t, broker, topic)
	wantSeen(t, broker, topic)
}
