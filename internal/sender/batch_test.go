package sender

import (
	"slices"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// With nothing to send there is no request to Kafka, and no transaction id is used up.
func TestSender_Batch_NothingToSend(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	o := r.own(r.replica(), 0)
	r.create(1, 3) // Another partition's.
	if again, err := o.sendBatch(bounded(t)); err != nil || again {
		t.Errorf("again %t, error %v", again, err)
	}
	if log := r.log(); len(log) > 0 {
		t.Errorf("%d records in the topic", len(log))
	}
	r.wantRow(0, 0)
	r.wantUnsent(1, 3)
}

// Payments are sent in the order in which they were created, and are marked with their offsets. A
// second batch repeats nothing.
func TestSender_Batch_InOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	s := r.replica(batches(7))
	o := r.own(s, 1)
	first := r.create(1, 10)
	sendBatch(t, o)
	r.wantInOrder(1, first[:7])
	r.wantUnsent(1, 3)
	r.wantRow(1, 7)
	second := r.create(1, 10)
	if n := r.drain(o); n != 2 {
		t.Errorf("%d more passes, want 2", n)
	}
	r.wantInOrder(1, first, second)
	r.wantRow(1, 20)
	r.wantRow(0, 0)
	r.verdict()
	if got := s.value("paylatch_payments_sent_total"); got != 20 {
		t.Errorf("the metric says %v payments were sent, want 20", got)
	}
}

// wide makes payments of the greatest size.
func wide(c *payment.Content) {
	text := func(n int) string { return strings.Repeat("\U0001D538", n) }
	c.Originator = payment.PartyContent{ID: strings.Repeat("1", 35), Name: text(140)}
	c.Beneficiary = c.Originator
	c.Receiver = payment.AccountContent{Type: strings.Repeat("a", 35), Number: strings.Repeat("2", 34)}
	c.Reference = new(text(35))
}

// More than fits into one batch: the rest stays unmarked and is left for the next batch, and
// nothing is sent twice.
func TestSender_Batch_MoreThanFits(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	o := r.own(r.replica(), 0)
	all := r.create(0, 750, wide)
	sendBatch(t, o)
	left := r.unsent(0)
	if left == 0 || left == len(all) {
		t.Fatalf("%d of %d are left: the test wants a batch that some fit into", left, len(all))
	}
	sent := len(all) - left
	r.wantRow(0, int64(sent))
	r.wantInOrder(0, all[:sent])
	sendBatch(t, o)
	r.wantInOrder(0, all)
	r.wantRow(0, int64(len(all)))
	r.verdict()
}

// With a broker that cannot be reached, the payments stay as they are. The next batch sends them
// once.
func TestSender_Batch_PublishError(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	s := r.replica(batches(10))
	good := s.Publisher
	// No program listens there.
	away := kafka.NewLocked(brokers.At("127.0.0.1:1"), r.topic, store.PublishTimeout)
	t.Cleanup(away.Close)
	o := r.own(s, 0)
	all := r.create(0, 15)
	o.sender.Publisher = away
	for range 2 {
		if again, err := o.sendBatch(bounded(t)); err == nil || again {
			t.Fatalf("again %t, error %v: nothing was tested", again, err)
		}
	}
	r.wantUnsent(0, 15)
	r.wantRow(0, 0)
	o.sender.Publisher = good
	r.drain(o)
	r.wantInOrder(0, all)
	r.verdict()
}

// A batch that the broker refuses for its content halts its partition. The reason is on record, the
// payments are kept, and the other partitions go on. Once an operator has corrected the topic, all
// is sent.
func TestSender_Refused(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, map[string]string{"max.message.bytes": "1500"})
	r.create(1, 2, wide)
	r.run(r.replica(batches(1)))
	until(t, "partition 1 halts", func() bool { return r.row(1).State == store.StateHalted })
	if reason := r.row(1).Reason; !strings.Contains(reason, "refused by the broker") {
		t.Errorf("the reason is %q", reason)
	}
	for _, p := range []int32{0, 2} {
		r.create(p, 5)
		until(t, "the others go on", func() bool { return r.unsent(p) == 0 })
	}
	r.wantUnsent(1, 2)
	r.wantRow(0, 5)
	r.wantRow(2, 5)
	r.setTopic("max.message.bytes", "1048588")
	if err := r.store.Resume(bounded(t), 1); err != nil {
		t.Fatal(err)
	}
	r.allSent()
	r.verdict()
}

// The log went back while its partition is owned. The new records are where the broker says, and
// are marked there. Records that were acknowledged before are gone, so the partition halts.
func TestSender_Batch_BaseBelowNextOffset(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	o := r.own(r.replica(), 0)
	all := r.create(0, 5)
	r.exec(`update topic_partitions set next_offset = 1000`)
	if again, err := o.sendBatch(bounded(t)); !halted(err) || again {
		t.Errorf("again %t, error %v", again, err)
	}
	if p := r.row(0); p.State != store.StateHalted || !strings.Contains(p.Reason, "the log went back") ||
		!strings.Contains(p.Reason, "1000") {
		t.Errorf("the partition is %s %q", p.State, p.Reason)
	}
	r.wantInOrder(0, all)
	r.verdict()
}

// Partitions of the other delivery are ignored: no session is opened there, and nothing is sent.
func TestSender_OtherDelivery(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, nil)
	r.exec(`update topic_partitions set delivery = 'fenced' where partition = 1`)
	if err := r.ownOnly(r.replica(), 1).recover(bounded(t)); !halted(err) {
		t.Errorf("takeover: error %v", err)
	}
	for p := range int32(3) {
		r.create(p, 4)
	}
	stop := r.run(r.replica())
	until(t, "the others are sent", func() bool { return r.unsent(0)+r.unsent(2) == 0 })
	r.wantUnsent(1, 4)
	r.wantRow(1, 0) // It is not halted either.
	stop()
	if got := r.inOrder(1); len(got) > 0 {
		t.Errorf("partition 1 holds %d records", len(got))
	}
}

// The delivery is read under the lock of each batch, so an owner stops at a change.
func TestSender_Batch_DeliveryChanged(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	o := r.own(r.replica(), 0)
	r.create(0, 4)
	r.exec(`update topic_partitions set delivery = 'fenced'`)
	if again, err := o.sendBatch(bounded(t)); !halted(err) || again {
		t.Errorf("again %t, error %v", again, err)
	}
	r.wantUnsent(0, 4)
	r.wantInOrder(0)
}

// A halted partition keeps its payments, and new ones, until an operator resumes it. Then each is
// sent once.
func TestSender_HaltAndResume(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	r.run(r.replica())
	before := r.create(0, 3)
	r.allSent()
	if err := r.store.Halt(bounded(t), 0, "by the test"); err != nil {
		t.Fatal(err)
	}
	kept := r.create(0, 5)
	r.create(1, 5)
	until(t, "the other partition is sent", func() bool { return r.unsent(1) == 0 })
	until(t, "the halted partition has no owner", func() bool {
		return r.count(`select count(*) `+sessionsOfPartitions+
			` and objid = 0`) == 0
	})
	r.wantUnsent(0, 5)
	if p := r.row(0); p.Reason != "by the test" {
		t.Errorf("the reason is %q", p.Reason)
	}
	if err := r.store.Resume(bounded(t), 0); err != nil {
		t.Fatal(err)
	}
	r.allSent()
	if got, want := r.inOrder(0), idsOf(slices.Concat(before, kept)); !slices.Equal(got, want) {
		t.Errorf("partition 0 holds %v, want %v", got, want)
	}
	r.verdict()
}
