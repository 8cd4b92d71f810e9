package auditor

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// kafkaTest is a topic of one partition in a broker in this process.
type kafkaTest struct {
	t        *testing.T
	addrs    []string
	cluster  *kafka.Cluster
	producer *kgo.Client
}

func newKafkaTest(t *testing.T) *kafkaTest {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topicName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	k := &kafkaTest{t: t, addrs: broker.ListenAddrs()}
	k.cluster, err = kafka.NewCluster(brokers.At(k.addrs...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.cluster.Close)
	k.producer, err = kgo.NewClient(
		kgo.SeedBrokers(k.addrs...), kgo.TransactionalID("test"), kgo.DefaultProduceTopic(topicName),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.producer.Close)
	return k
}

// table returns a table that belongs to the topic.
func (k *kafkaTest) table(rows ...row) *fakeTable {
	k.t.Helper()
	ranges, err := k.cluster.Ranges(k.t.Context(), topicName)
	if err != nil {
		k.t.Fatal(err)
	}
	t := newFakeTable(1, rows...)
	t.partitions = []store.Partition{{Topic: topicName, TopicID: ranges[0].TopicID}}
	return t
}

// transaction produces one record for each payment and ends the transaction. It returns the offset
// of the first record.
func (k *kafkaTest) transaction(end kgo.TransactionEndTry, payments ...int) int64 {
	k.t.Helper()
	if err := k.producer.BeginTransaction(); err != nil {
		k.t.Fatal(err)
	}
	var records []*kgo.Record
	for _, n := range payments {
		records = append(records, kgo.KeyStringRecord(id(n).String(), "{}"))
	}
	if err := k.producer.ProduceSync(k.t.Context(), records...).FirstErr(); err != nil {
		k.t.Fatal(err)
	}
	if err := k.producer.EndTransaction(k.t.Context(), end); err != nil {
		k.t.Fatal(err)
	}
	return records[0].Offset
}

// TestRun_AbortedRecords: an aborted record is no record. It is no duplicate of a committed one,
// and a payment that is marked at its offset is missing. The offsets of markers are gaps.
func TestRun_AbortedRecords(t *testing.T) {
	t.Parallel()
	k := newKafkaTest(t)
	k.transaction(kgo.TryAbort, 1, 2)
	first := k.transaction(kgo.TryCommit, 1, 2)
	aborted := k.transaction(kgo.TryAbort, 3)
	last := k.transaction(kgo.TryCommit, 4, 2)
	if first != 3 || aborted != 6 || last != 8 {
		t.Fatalf("got offsets %d, %d and %d, want 3, 6 and 8: a marker takes an offset", first, aborted, last)
	}
	got := mustRun(t, k.table(row{id(1), 0, 3}, row{id(2), 0, 4}, row{id(3), 0, 6}, row{id(4), 0, 8}), k.cluster)
	if got.Payments != 4 || got.Records != 4 || got.Missing != 1 || got.Duplicates != 1 || got.Unexpected != 0 {
		t.Fatalf("got %+v, want 4 payments, 4 records, 1 missing, 1 duplicate", got)
	}
	missing, twice := got.Examples.Missing[0], got.Examples.Duplicates[0]
	if missing != id(3).String() || twice != id(2).String() {
		t.Errorf("got missing %s and duplicate %s, want %s and %s", missing, twice, id(3), id(2))
	}
}
