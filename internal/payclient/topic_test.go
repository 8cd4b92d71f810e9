package payclient

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// testTopic is a topic on a broker of its own, in which a test writes records of payments as the service would, or should not.
type testTopic struct {
	Topic
	t      *testing.T
	client *kgo.Client
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
	return &testTopic{Topic{cluster.ListenAddrs(), "payments"}, t, client}
}

// send writes one transaction, committed or aborted, and returns where its records are.
func (s *testTopic) send(end kgo.TransactionEndTry, partition int32, ids ...string) (at []Position) {
	s.t.Helper()
	if err := s.client.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range ids {
		r, err := s.client.ProduceSync(s.t.Context(), &kgo.Record{Topic: s.Name, Partition: partition, Key: []byte(id), Value: []byte("{}")}).First()
		if err != nil {
			s.t.Fatal(err)
		}
		at = append(at, Position{s.Name, r.Partition, r.Offset})
	}
	if err := s.client.EndTransaction(s.t.Context(), end); err != nil {
		s.t.Fatal(err)
	}
	return at
}
