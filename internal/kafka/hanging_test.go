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

// hang leaves in a topic of its own what a lost marker leaves: events from offset 0 on in a transaction of which the log does not say what became of it, although its
// coordinator has nothing under way, so that no Fence ends it.
//
// A real broker loses a marker when it is killed at the right moment, which nobody can choose. There the same log is made by a producer that does not tell the coordinator of its
// transaction; the broker takes that when it is told not to ask the coordinator back (KIP-890), which other tests do not notice.
func hang(t *testing.T, events []Event) (broker, topic string) {
	t.Helper()
	if !parts.InDocker(t) {
		losing := parts.LosingKafka(t)
		topic = newTopic(t, losing.Addr, 1, nil)
		losing.LoseNext()
		emit(t, fence(t, losing.Addr, topic), 0, events)
		if !losing.Lost() {
			t.Fatal("no marker was lost: nothing was tested")
		}
		return losing.Addr, topic
	}
	broker = parts.Kafka(t)
	topic = newTopic(t, broker, 1, nil)
	off, p := "false", fence(t, broker, topic)
	answers, err := kadm.NewClient(p.client).AlterBrokerConfigs(bounded(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "transaction.partition.verification.enable", Value: &off}})
	if err != nil || answers[0].Err != nil {
		t.Fatal(err, answers)
	}
	produceUntold(t, broker, p, events)
	return broker, topic
}

// produceUntold appends the events in a transaction of the producer's, by a request of the last version that the broker does not take for a word to the coordinator.
func produceUntold(t *testing.T, broker string, p *Producer, events []Event) {
	t.Helper()
	id, epoch, err := p.client.ProducerID(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	n, now := int32(len(events)), time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1 << 4, // Transactional.
		LastOffsetDelta: n - 1, NumRecords: n, FirstTimestamp: now, MaxTimestamp: now, ProducerID: id, ProducerEpoch: epoch,
	}
	for i, e := range events {
		r := kmsg.Record{OffsetDelta: int32(i), Key: e.Key, Value: e.Value}
		for _, h := range e.Headers {
			r.Headers = append(r.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // Without the length itself, which is one byte as long as it is 0.
		batch.Records = r.AppendTo(batch.Records)
	}
	batch.Length = int32(len(batch.AppendTo(nil)) - 12) // Of what follows it,
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	as, _ := p.client.OptValue(kgo.TransactionalID).(string)
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis, request.TransactionID = -1, 5000, &as
	request.Topics = []kmsg.ProduceRequestTopic{{Topic: p.topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batch.AppendTo(nil)}}}}

	client := judge(t, broker, kgo.MaxVersions(kversion.V3_8_0()))
	defer client.Close()
	metadata, err := kadm.NewClient(client).Metadata(bounded(t), p.topic)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the broker does not ask the coordinator any more", func() bool {
		answer, err := request.RequestWith(bounded(t), client.Broker(int(metadata.Topics[p.topic].Partitions[0].Leader)))
		if err != nil {
			t.Fatal(err)
		}
		err = kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
		if err != nil && !errors.Is(err, kerr.TransactionAbortable) { // It learns its setting a moment later.
			t.Fatal(err)
		}
		return err == nil
	})
}

// EndHanging decides, either way, what the partition's former producer has left undecided, and the log goes on behind its marker. Before the fence nobody did.
func TestProducer_EndHanging(t *testing.T) {
	t.Parallel()
	for name, commit := range map[string]bool{"Commit": true, "Abort": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := samples(t, 5)
			broker, topic := hang(t, events[:3])
			heir := fence(t, broker, topic)
			if r, err := newCluster(t, broker).Range(bounded(t), topic, 0); err != nil || r.StableEnd != 0 || r.End != 3 {
				t.Fatalf("nothing hangs: %+v, %v", r, err)
			}
			says := fmt.Sprintf("open there is: producer id %d, epoch ", heir.id)
			if err := fenceAs(t, broker, topic, "foreign-"+topic).EndHanging(bounded(t), commit); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("of another's: %v, want %q in it", err, says)
			}
			if err := heir.EndHanging(bounded(t), commit); err != nil {
				t.Fatal(err)
			}
			want := events
			if !commit {
				want = events[3:]
			}
			if got := end(t, broker, topic); got != 4 {
				t.Fatalf("the log ends at %d, want 4", got)
			}
			emit(t, heir, 4, events[3:])
			wantSeen(t, broker, topic, want...)
		})
	}
}

// A transaction under way is nobody's to end but its producer's. Not one that was fenced meanwhile, and goes on as if it were the heir: a marker is an administrator's request, which fencing does
// not cover, and the heir would be told that its batch is committed. Not its own producer's either.
func TestProducer_EndHanging_UnderWay(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	events := samples(t, 6)
	zombie := fence(t, broker, topic)
	heir := fence(t, broker, topic)
	for i, batch := range [][]Event{events[:3], events[3:]} { // After a commit its producer has another epoch.
		if err := heir.Produce(bounded(t), int64(4*i), batch); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*Producer{zombie, heir} {
			if err := p.EndHanging(bounded(t), false); err == nil {
				t.Error("it was ended")
			}
		}
		if err := heir.Commit(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	wantSeen(t, broker, topic, events...)
}

// A zombie that has looked, and writes its marker only when its heir has ended the same transaction and begun another, is refused by a real broker: the marker bears an epoch that is over.
// (kfake takes any, so there is nothing to be seen of it there.)
func TestProducer_EndHanging_Late(t *testing.T) {
	t.Parallel()
	events := samples(t, 6)
	broker, topic := hang(t, events[:3])
	zombie := fence(t, broker, topic)
	open, err := zombie.openTransactions(bounded(t))
	if err != nil || len(open) != 1 {
		t.Fatal(open, err)
	}
	heir := fence(t, broker, topic)
	if err := heir.EndHanging(bounded(t), true); err != nil {
		t.Fatal(err)
	}
	if err := heir.Produce(bounded(t), 4, events[3:]); err != nil {
		t.Fatal(err)
	}
	if parts.InDocker(t) {
		if err := zombie.writeMarker(bounded(t), open[zombie.id], false); !errors.Is(err, kerr.InvalidProducerEpoch) {
			t.Errorf("error %v", err)
		}
	}
	if err := heir.Commit(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, broker, topic, events...)
}

// Settled says when everything is decided, and never earlier: not while a transaction is open, not when its marker is lost; it comes back all the same.
func TestProducer_Settled(t *testing.T) {
	t.Parallel()
	t.Run("MarkerLost", func(t *testing.T) {
		t.Parallel()
		events := samples(t, 3)
		broker, topic := hang(t, events)
		p := fence(t, broker, topic)
		if err := p.Settled(bounded(t), 4); err == nil {
			t.Fatal("settled without a marker")
		}
		if err := p.EndHanging(bounded(t), true); err != nil {
			t.Fatal(err)
		}
		if err := p.Settled(bounded(t), 4); err != nil {
			t.Error(err)
		}
	})
	t.Run("MarkerComes", func(t *testing.T) {
		t.Parallel()
		broker := parts.Kafka(t)
		topic := newTopic(t, broker, 1, nil)
		p, onlooker := fence(t, broker, topic), fenceAs(t, broker, topic, "onlooker-"+topic)
		if err := p.Settled(bounded(t), 0); err != nil {
			t.Errorf("an empty log: %v", err)
		}
		if err := p.Produce(bounded(t), 0, samples(t, 2)); err != nil {
			t.Fatal(err)
		}
		if err := onlooker.Settled(bounded(t), 3); err == nil {
			t.Fatal("settled while a transaction is open")
		}
		if err := p.Commit(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if err := p.Settled(bounded(t), 3); err != nil {
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
		if err := p.Settled(bounded(t), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// Why nothing may be produced before Settled: the next transaction of the same id is taken for more of the one whose marker is lost, and the abort of it takes both.
func TestProducer_LostMarkerIsExtended(t *testing.T) {
	t.Parallel()
	events := samples(t, 5)
	broker, topic := hang(t, events[:3])
	p := fence(t, broker, topic)
	if err := p.Produce(bounded(t), 4, events[3:]); err == nil {
		t.Error("the offsets go on although there is no marker")
	}
	fence(t, broker, topic)
	wantSeen(t, broker, topic)
}
