package kafka

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/test/parts"
)

// wantOneEach checks that each finding contains its word.
func wantOneEach(t *testing.T, what string, findings, words []string) {
	t.Helper()
	if !slices.EqualFunc(findings, words, strings.Contains) {
		t.Errorf("%s: got %q, want one for each of %q", what, findings, words)
	}
}

// TestTopic_Faults checks topics with different settings.
func TestTopic_Faults(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	cluster := newCluster(t, broker)
	for name, test := range map[string]struct {
		settings map[string]string
		// expected is the number of partitions in the database.
		expected int
		faults   []string
	}{
		"Fit":       {nil, 2, nil},
		"FitDelete": {map[string]string{"cleanup.policy": "delete", "max.message.bytes": "1001000"}, 2, nil},
		"Compact":   {map[string]string{"cleanup.policy": "compact"}, 2, []string{"cleanup.policy=compact"}},
		"CompactAndDelete": {
			map[string]string{"cleanup.policy": "compact,delete"}, 2, []string{"cleanup.policy=compact,delete"},
		},
		"MorePartitions":  {nil, 1, []string{"has 2 partitions, the database says 1"}},
		"FewerPartitions": {nil, 3, []string{"has 2 partitions, the database says 3"}},
		"SmallMessages":   {map[string]string{"max.message.bytes": "1000999"}, 2, []string{"bytes=1000999"}},
		"AllAtOnce": {
			map[string]string{"cleanup.policy": "compact", "max.message.bytes": "1000"},
			9,
			[]string{"2 partitions", "compact", "max.message.bytes=1000:"},
		},
		"UnrelatedSettings": {map[string]string{"retention.ms": "60000", "min.insync.replicas": "1"}, 2, nil},
	} {
		topic, err := cluster.Topic(bounded(t), newTopic(t, broker, 2, test.settings))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantOneEach(t, name+": faults", topic.Faults(test.expected), test.faults)
		for key, value := range test.settings {
			if topic.Configs[key] != value {
				t.Errorf("%s: got %s=%q, want %q", name, key, topic.Configs[key], value)
			}
		}
		wantOneEach(t, name+": warnings", topic.Warnings(), []string{"replication factor 1"}) // One broker.
	}
}

// TestTopic_Warnings: warnings depend on the number of replicas, for which it starts three brokers.
func TestTopic_Warnings(t *testing.T) {
	t.Parallel()
	_, addr := newFake(t, 3)
	cluster := newCluster(t, addr)
	for name, test := range map[string]struct {
		replication int16
		// minInsync is empty for what CreateTopic sets.
		minInsync string
		warnings  []string
	}{
		"One":         {1, "", []string{"replication factor 1"}},
		"Two":         {2, "", nil},
		"Three":       {3, "", nil},
		"ThreeWeak":   {3, "1", []string{"min.insync.replicas=1"}},
		"ThreeStrong": {3, "3", nil},
	} {
		topic := parts.Topic()
		if err := cluster.CreateTopic(bounded(t), topic, 2, test.replication); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if test.minInsync != "" {
			change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.insync.replicas", Value: &test.minInsync}}
			responses, err := cluster.admin.AlterTopicConfigs(bounded(t), change, topic)
			if err != nil || responses[0].Err != nil {
				t.Fatalf("%s: %v %v", name, err, responses)
			}
		}
		got, err := cluster.Topic(bounded(t), topic)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Replication != int(test.replication) {
			t.Errorf("%s: got replication %d, want %d", name, got.Replication, test.replication)
		}
		wantOneEach(t, name+": warnings", got.Warnings(), test.warnings)
		wantOneEach(t, name+": faults", got.Faults(2), nil)
	}
}

// TestTopic_Warnings_TransactionVersion: brokers that cannot distinguish late requests of a
// transaction cause a warning.
func TestTopic_Warnings_TransactionVersion(t *testing.T) {
	t.Parallel()
	old := Topic{Replication: 2, TransactionVersion: 1}
	wantOneEach(t, "1", old.Warnings(), []string{"transaction.version=1"})
	now, err := newCluster(t, parts.Kafka(t)).transactionVersion(bounded(t))
	if err != nil || now != 2 {
		t.Errorf("got transaction.version %d and error %v, want 2", now, err)
	}
}

// TestCluster_NoTopic: ErrNoTopic is not returned if the brokers do not respond.
func TestCluster_NoTopic(t *testing.T) {
	t.Parallel()
	broker := parts.OwnKafka(t)
	cluster, topic := newCluster(t, broker.Addr), parts.Topic()
	if _, err := cluster.Topic(bounded(t), topic); !errors.Is(err, ErrNoTopic) {
		t.Errorf("Topic: got error %v, want ErrNoTopic", err)
	}
	if _, err := cluster.Ranges(bounded(t), topic); !errors.Is(err, ErrNoTopic) {
		t.Errorf("Ranges: got error %v, want ErrNoTopic", err)
	}
	if _, err := cluster.Range(bounded(t), topic, 0); !errors.Is(err, ErrNoTopic) {
		t.Errorf("Range: got error %v, want ErrNoTopic", err)
	}
	broker.Stop(t)
	until(t, "the error is not ErrNoTopic", func() bool { // Metadata is cached for a tenth of a second.
		_, err := cluster.Range(bounded(t), topic, 0)
		return err != nil && !errors.Is(err, ErrNoTopic)
	})
	broker.Start(t)
	until(t, "the cluster responds again", func() bool {
		_, err := cluster.Range(bounded(t), topic, 0)
		return errors.Is(err, ErrNoTopic)
	})
}

// TestCluster_CreateTopic_Twice: two replicas may create the topic at once. The second call does
// not change it.
func TestCluster_CreateTopic_Twice(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	cluster, name := newCluster(t, broker), parts.Topic()
	if err := cluster.CreateTopic(bounded(t), name, 3, 0); err != nil {
		t.Fatal(err)
	}
	awaitTopic(t, broker, name)
	first, err := cluster.Topic(bounded(t), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.CreateTopic(bounded(t), name, 5, 0); err != nil {
		t.Errorf("second call: got error %v, want none", err)
	}
	second, err := cluster.Topic(bounded(t), name)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID == (uuid.UUID{}) || second.ID != first.ID || second.Partitions != 3 || first.Name != name {
		t.Errorf("got topic %s with %d partitions, then %s with %d; want one topic with 3",
			first.ID, first.Partitions, second.ID, second.Partitions)
	}
	if first.Configs["cleanup.policy"] != "delete" {
		t.Errorf("got cleanup.policy %q, want delete", first.Configs["cleanup.policy"])
	}
	if err := cluster.CreateTopic(bounded(t), parts.Topic(), 1, 100); err == nil {
		t.Error("more replicas than brokers: got no error, want one")
	}
}

// TestCluster_Ranges: Ranges and Range return start and end of each log, also after records were
// deleted at the start.
func TestCluster_Ranges(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	cluster, topic := newCluster(t, broker), newTopic(t, broker, 3, nil)
	l, events := newLocked(t, broker, topic), samples(t, 10)
	publish(t, l, 0, events)
	publish(t, l, 2, events[:7])
	var front kadm.Offsets
	front.Add(kadm.Offset{Topic: topic, Partition: 2, At: 4, LeaderEpoch: -1})
	if deleted, err := cluster.admin.DeleteRecords(bounded(t), front); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}

	known, err := cluster.Topic(bounded(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	want := []Range{
		{TopicID: known.ID, Start: 0, StableEnd: 10, End: 10},
		{TopicID: known.ID},
		{TopicID: known.ID, Start: 4, StableEnd: 7, End: 7},
	}
	got, err := cluster.Ranges(bounded(t), topic)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got ranges %v and error %v, want %v", got, err, want)
	}
	for p, r := range want {
		if got, err := cluster.Range(bounded(t), topic, int32(p)); err != nil || got != r {
			t.Errorf("partition %d: got range %v and error %v, want %v", p, got, err, r)
		}
	}
	if _, err := cluster.Range(bounded(t), topic, 3); err == nil || errors.Is(err, ErrNoTopic) {
		t.Errorf("no such partition: got error %v, want one that is not ErrNoTopic", err)
	}
}

// TestCluster_TopicRecreated: a topic that was deleted and created again has another id. So marks
// of the old one do not count for the new one.
func TestCluster_TopicRecreated(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	cluster, topic := newCluster(t, broker), newTopic(t, broker, 1, nil)
	before, err := cluster.Range(bounded(t), topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	admin := newClient(t, broker)
	defer admin.Close()
	if _, err := kadm.NewClient(admin).DeleteTopic(bounded(t), topic); err != nil {
		t.Fatal(err)
	}
	until(t, "the topic is another one", func() bool {
		if err := cluster.CreateTopic(bounded(t), topic, 1, 0); err != nil {
			return false // The old one is still being deleted.
		}
		after, err := cluster.Range(bounded(t), topic, 0)
		return err == nil && after.TopicID != before.TopicID
	})
}

// TestCluster_Ranges_OpenTransaction: the stable end is before an open transaction.
func TestCluster_Ranges_OpenTransaction(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	cluster, topic := newCluster(t, broker), newTopic(t, broker, 1, nil)
	publish(t, newLocked(t, broker, topic), 0, samples(t, 5))
	foreign := newClient(t, broker, kgo.TransactionalID(topic))
	defer foreign.Close()
	if err := foreign.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	record := &kgo.Record{Topic: topic, Value: []byte("foreign")}
	if err := foreign.ProduceSync(bounded(t), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if r, err := cluster.Range(bounded(t), topic, 0); err != nil || r.StableEnd != 5 || r.End != 6 {
		t.Errorf("got stable end %d, end %d and error %v, want 5 and 6", r.StableEnd, r.End, err)
	}
	if err := foreign.EndTransaction(bounded(t), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	until(t, "the abort is in the log", func() bool { // Its marker has an offset.
		r, err := cluster.Range(bounded(t), topic, 0)
		return err == nil && r.StableEnd == 7 && r.End == 7
	})
}
