package loadtest

import (
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "pl_test_0123456789"

// newTestClient has short pauses and long time-outs.
func newTestClient(t *testing.T, change func(*client.Config), servers ...string) *client.Client {
	t.Helper()
	cfg := client.Config{
		Servers: servers, APIKey: testKey,
		AttemptTimeout: 10 * time.Second, RetryFor: 20 * time.Second,
		BackoffFirst: time.Millisecond, BackoffMax: 4 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func openJournal(t *testing.T, path string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// testTopic is a topic on a broker of its own.
type testTopic struct {
	journal.Topic
	t     *testing.T
	kafka *kgo.Client
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
	return &testTopic{journal.Topic{Brokers: cluster.ListenAddrs(), Name: "payments"}, t, kafka}
}

// send writes one transaction and ends it.
func (s *testTopic) send(end kgo.TransactionEndTry, partition int32, ids ...string) {
	s.t.Helper()
	if err := s.kafka.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range ids {
		r := &kgo.Record{Topic: s.Name, Partition: partition, Key: []byte(id), Value: []byte("{}")}
		if err := s.kafka.ProduceSync(s.t.Context(), r).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.kafka.EndTransaction(s.t.Context(), end); err != nil {
		s.t.Fatal(err)
	}
}
