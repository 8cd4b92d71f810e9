package journaltest

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/client"
)

// Name is the name of a Topic, and Partitions is how many partitions it has.
const (
	Name       = "payments"
	Partitions = 3
)

// Topic is a topic on a broker of its own, with a producer.
type Topic struct {
	Brokers []string

	t       *testing.T
	cluster *kfake.Cluster
	kafka   *kgo.Client
}

// NewTopic starts a broker that has an empty topic.
func NewTopic(t *testing.T) *Topic {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(Partitions, Name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	topic := &Topic{Brokers: cluster.ListenAddrs(), t: t, cluster: cluster}
	topic.kafka = topic.producer("sender")
	return topic
}

func (s *Topic) producer(transactionalID string) *kgo.Client {
	s.t.Helper()
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(s.Brokers...), kgo.TransactionalID(transactionalID),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionTimeout(10*time.Minute),
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(kafka.Close)
	return kafka
}

// Send writes one transaction, ends it, and returns the positions of its records.
func (s *Topic) Send(end kgo.TransactionEndTry, partition int32, ids ...string) (at []client.Position) {
	s.t.Helper()
	if err := s.kafka.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range ids {
		record := &kgo.Record{Topic: Name, Partition: partition, Key: []byte(id), Value: []byte("{}")}
		r, err := s.kafka.ProduceSync(s.t.Context(), record).First()
		if err != nil {
			s.t.Fatal(err)
		}
		at = append(at, client.Position{Topic: Name, Partition: r.Partition, Offset: r.Offset})
	}
	if err := s.kafka.EndTransaction(s.t.Context(), end); err != nil {
		s.t.Fatal(err)
	}
	return at
}

// Open begins a transaction of another producer in a partition. The returned function aborts it.
func (s *Topic) Open(partition int32) (abort func() error) {
	s.t.Helper()
	kafka := s.producer("other")
	if err := kafka.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	record := &kgo.Record{Topic: Name, Partition: partition, Key: []byte("other")}
	if err := kafka.ProduceSync(s.t.Context(), record).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	return func() error { return kafka.EndTransaction(s.t.Context(), kgo.TryAbort) }
}

// EndsRead returns a channel that is closed when the ends of the topic were read so many times.
func (s *Topic) EndsRead(times int) <-chan struct{} {
	done := make(chan struct{})
	left := 3 * times // A reading is three requests.
	s.cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		left--
		if left == 0 {
			close(done)
		}
		return nil, nil, false
	})
	return done
}
