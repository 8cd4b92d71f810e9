package journal

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/client"
)

// testTopic is a topic on a broker of its own, in which a test writes records of payments as the
// service would, or should not.
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
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID("sender"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &testTopic{Topic{cluster.ListenAddrs(), "payments"}, t, cluster, client}
}

// send writes one transaction, committed or aborted, and returns where its records are.
func (s *testTopic) send(end kgo.TransactionEndTry, partition int32, ids ...string) (at []client.Position) {
	s.t.Helper()
	if err := s.kafka.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range ids {
		r, err := s.kafka.ProduceSync(s.t.Context(), &kgo.Record{Topic: s.Name, Partition: partition, Key: []byte(id), Value: []byte("{}")}).First()
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

// open begins a transaction of another producer in a partition, and returns what aborts it.
func (s *testTopic) open(partition int32) (abort func() error) {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.TransactionalID("other"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionTimeout(10*time.Minute), kgo.DisableClientMetrics())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	if err := client.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	if err := client.ProduceSync(s.t.Context(), &kgo.Record{Topic: s.Name, Partition: partition, Key: []byte("other")}).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	return func() error { return client.EndTransaction(s.t.Context(), kgo.TryAbort) }
}

// looked returns a channel that is closed once the ends of the topic have been read so many times.
func (s *testTopic) looked(times int) <-chan struct{} {
	done := make(chan struct{})
	left := 3 * times // A look is three requests.
	s.broker.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.KeepControl()
		if left--; left == 0 {
			close(done)
		}
		return nil, nil, false
	})
	return done
}
