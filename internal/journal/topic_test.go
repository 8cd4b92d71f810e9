package journal

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/client"
)

// testTopic is a topic on a broker of its own, with a producer.
type testTopic struct {
	Topic
	t      *testing.T
	broker *kfake.Cluster
	kafka  *kgo.Client
}

const testPartitions = 3

func newTestTopic(t *testing.T) *testTopic {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(testPartitions, "payments"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID("sender"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableClientMetrics(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	return &testTopic{Topic{cluster.ListenAddrs(), "payments"}, t, cluster, kafka}
}

// send writes one transaction, ends it, and returns the positions of its records.
func (s *testTopic) send(end kgo.TransactionEndTry, partition int32, ids ...string) (at []client.Position) {
	s.t.Helper()
	if err := s.kafka.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range ids {
		record := &kgo.Record{Topic: s.Name, Partition: partition, Key: []byte(id), Value: []byte("{}")}
		r, err := s.kafka.ProduceSync(s.t.Context(), record).First()
		if err != nil {
			s.t.Fatal(err)
		}
		at = append(at, client.Position{Topic: s.Name, Partition: r.Partition, Offset: r.Offset})
	}
	if err := s.kafka.EndTransaction(s.t.Context(), end); err != nil {
		s.t.Fatal(err)
	}
	return at
}

// open begins a transaction of another producer in a partition. The returned function aborts it.
func (s *testTopic) open(partition int32) (abort func() error) {
	s.t.Helper()
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(s.Brokers...), kgo.TransactionalID("other"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionTimeout(10*time.Minute), kgo.DisableClientMetrics(),
	)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(kafka.Close)
	if err := kafka.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	record := &kgo.Record{Topic: s.Name, Partition: partition, Key: []byte("other")}
	if err := kafka.ProduceSync(s.t.Context(), record).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	return func() error { return kafka.EndTransaction(s.t.Context(), kgo.TryAbort) }
}

// endsRead returns a channel that is closed when the ends of the topic were read so many times.
func (s *testTopic) endsRead(times int) <-chan struct{} {
	done := make(chan struct{})
	left := 3 * times // A reading is three requests.
	s.broker.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.KeepControl()
		if left--; left == 0 {
			close(done)
		}
		return nil, nil, false
	})
	return done
}
