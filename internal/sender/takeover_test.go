package sender

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

func halted(err error) bool { return errors.Is(err, errHalted) }

// wantHaltedAtTakeover makes an owner take over. It must halt the partition with a reason that
// contains the words, put that on record, and send nothing.
func (r *rig) wantHaltedAtTakeover(words ...string) {
	r.t.Helper()
	unsent := r.unsent(0)
	o := r.ownOnly(r.replica(), 0)
	if err := o.recover(bounded(r.t)); !halted(err) {
		r.t.Errorf("takeover: error %v", err)
	}
	p := r.row(0)
	if p.State != store.StateHalted {
		r.t.Fatalf("the partition is %s", p.State)
	}
	for _, word := range words {
		if !strings.Contains(p.Reason, word) {
			r.t.Errorf("the reason %q does not say %q", p.Reason, word)
		}
	}
	if err := o.recover(bounded(r.t)); !halted(err) { // It stays so.
		r.t.Errorf("takeover again: error %v", err)
	}
	r.wantUnsent(0, unsent)
	if after := r.row(0); after != p {
		r.t.Errorf("the partition changed from %+v to %+v", p, after)
	}
}

// produce writes records of another program into partition 0.
func (r *rig) produce(n int) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	for range n {
		if err := client.ProduceSync(bounded(r.t),
			&kgo.Record{Topic: r.topic, Value: []byte("foreign")}).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// setTopic changes one setting of the topic, as an operator would.
func (r *rig) setTopic(name, value string) {
	r.t.Helper()
	answers, err := r.admin.AlterTopicConfigs(bounded(r.t),
		[]kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, r.topic)
	if err != nil || answers[0].Err != nil {
		r.t.Fatal(err, answers)
	}
}

// A topic was deleted and created again under its name. All that is marked is gone, and offsets
// begin at 0 again.
func TestSender_Takeover_TopicCreatedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	r.create(0, 10)
	first := r.own(r.replica(), 0)
	r.drain(first)
	first.session.Close()
	was := r.row(0).TopicID
	if _, err := r.admin.DeleteTopic(bounded(t), r.topic); err != nil {
		t.Fatal(err)
	}
	until(t, "the topic is another one", func() bool {
		if err := r.cluster.CreateTopic(bounded(t), r.topic, 1, 0); err != nil {
			return false // It is still being deleted.
		}
		g, err := r.cluster.Range(bounded(t), r.topic, 0)
		return err == nil && g.TopicID != was
	})
	r.create(0, 5)
	r.wantHaltedAtTakeover("another one", was.String())
	if got := r.inOrder(0); len(got) > 0 {
		t.Errorf("the new topic holds %d records", len(got))
	}
}

// Records above next_offset were deleted that were never compared with the table. They may have
// been payments whose mark was lost.
func TestSender_Takeover_RecordsDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	r.produce(8)
	var front kadm.Offsets
	front.Add(kadm.Offset{Topic: r.topic, At: 5, LeaderEpoch: -1})
	if deleted, err := r.admin.DeleteRecords(bounded(t), front); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	r.create(0, 5)
	r.wantHaltedAtTakeover("begins at offset 5", "next offset 0")
}

// Deleted records below next_offset were all marked. That is retention, and no reason to halt.
func TestSender_Takeover_RetentionUpToNextOffset(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	first := r.own(r.replica(), 0)
	r.create(0, 10)
	r.drain(first)
	first.session.Close()
	var front kadm.Offsets
	front.Add(kadm.Offset{Topic: r.topic, At: 10, LeaderEpoch: -1})
	if deleted, err := r.admin.DeleteRecords(bounded(t), front); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	more := r.create(0, 5)
	r.drain(r.own(r.replica(), 0))
	r.wantInOrder(0, more)
	r.wantRow(0, 15)
}

// A log that ends before next_offset has lost acknowledged records.
func TestSender_Takeover_LogEndsTooEarly(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	first := r.own(r.replica(), 0)
	r.create(0, 10)
	r.drain(first)
	first.session.Close()
	r.exec(`update topic_partitions set next_offset = 11`)
	r.create(0, 5)
	r.wantHaltedAtTakeover("ends at offset 10", "next offset 11")
}

// In locked delivery, records of another program, or of a predecessor that did not mark them, are
// no contradiction. Ours follow them.
func TestSender_Takeover_LogIsAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	r.produce(3)
	r.create(0, 5)
	r.drain(r.own(r.replica(), 0))
	r.wantRow(0, 8)
	if got := r.count(`select min(kafka_offset) from payments`); got != 3 {
		t.Errorf("our first record is marked at %d, want 3", got)
	}
}

// An unreachable Kafka is no contradiction. Nothing halts, and the next attempt succeeds.
func TestSender_Takeover_BrokerAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	r.create(0, 5)
	s := r.replica()
	away, err := kafka.NewCluster(brokers.At("127.0.0.1:1")) // Nobody listens there.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(away.Close)
	o := r.ownOnly(s, 0)
	o.sender.Log = away
	if err := o.recover(bounded(t)); err == nil || halted(err) {
		t.Fatalf("takeover: error %v", err)
	}
	r.wantRow(0, 0)
	o.sender.Log = r.cluster
	if err := o.recover(bounded(t)); err != nil {
		t.Fatalf("takeover: error %v", err)
	}
	r.drain(o)
	r.verdict()
}
