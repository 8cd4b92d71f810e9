package sender

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/store"
)

func (r *rig) operator() operator.Operator {
	fencer := kafka.NewFencer(brokers.At(r.broker), r.topic, store.PublishTimeout)
	return operator.Operator{Store: r.store, Fencer: fencer, Log: r.cluster}
}

// halt halts the rig's partition, as if for a reason that the operator has dealt with.
func (r *rig) halt() {
	r.t.Helper()
	r.exec(`update topic_partitions set state = 'halted', reason = 'a test'`)
}

// An open transaction of another program keeps an operator's command from knowing the log, as it
// does a takeover. The command fails at once, and nothing is changed.
func TestOperator_OpenTransaction(t *testing.T) {
	t.Parallel()
	for name, work := range map[string]func(*rig) error{
		"ToLocked": func(r *rig) error {
			_, err := r.operator().ChangeDelivery(bounded(r.t), 0, store.DeliveryLocked)
			return err
		},
		"ToFenced": func(r *rig) error {
			r.exec(`update topic_partitions set delivery = 'locked'`)
			_, err := r.operator().ChangeDelivery(bounded(r.t), 0, store.DeliveryFenced)
			return err
		},
		"Resume": func(r *rig) error {
			r.halt()
			_, err := r.operator().Resume(bounded(r.t), 0, operator.ResumeOptions{Choice: operator.Resend, InDoubt: -1})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, nil)
			r.inFenced()
			r.foreign()
			if err := work(r); !errors.Is(err, recovery.ErrOpenTransaction) ||
				!strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("error %v", err)
			}
			if p := r.row(0); p.NextOffset != 0 || p.Generation != 0 {
				t.Errorf("changed: %+v", p)
			}
			r.wantLogged("begun ", "ended unknown") // Whether the transaction was ended is not known.
		})
	}
}

// wantLogged wants the last rows of the operator's log to have these phases and results.
func (r *rig) wantLogged(want ...string) {
	r.t.Helper()
	var got []string
	const last = `select array_agg(phase || ' ' || result order by seq) from
		(select * from operator_log order by seq desc limit $1) as last`
	if err := r.sql.QueryRow(bounded(r.t), last, len(want)).Scan(&got); err != nil {
		r.t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("got the rows %q in the operator's log, want %q", got, want)
	}
}

// An operator's command ends a transaction whose marker the broker has lost, as a takeover does. A
// batch on record is committed.
func TestOperator_MarkerLost(t *testing.T) {
	t.Parallel()
	t.Run("ChangeDelivery", func(t *testing.T) {
		t.Parallel()
		r := newLosing(t)
		r.lose().reset()
		if _, err := r.operator().ChangeDelivery(bounded(t), 0, store.DeliveryLocked); err != nil {
			t.Fatal(err)
		}
		r.wantRow(0, 11)
		r.verdict()
	})
	t.Run("Resume", func(t *testing.T) {
		t.Parallel()
		r := newLosing(t)
		r.lose().reset()
		r.halt()
		got, err := r.operator().Resume(bounded(t), 0, operator.ResumeOptions{Choice: operator.AssumeSent, InDoubt: -1})
		if want := (operator.Resumption{NextAt: 11}); err != nil || got.InDoubt != want.InDoubt ||
			got.NextAt != want.NextAt {
			t.Fatalf("%+v, %v", got, err)
		}
		r.wantRow(0, 11)
		r.verdict()
	})
}

// All records that are passed over are counted, however many reasons are kept: unexpected records,
// and records that contradict their rows.
func TestOperator_UnexpectedRecords(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	r.create(0, 5)
	first := r.ownFenced(r.replica(r.inFenced()))
	work(t, first)
	first.reset()
	r.tamper(`update payments set status = 'created', sent_at = null, kafka_offset = null, amount = amount + 1`)
	r.exec(`update topic_partitions set next_offset = 0`)
	r.produce(6)
	r.halt()
	got, err := r.operator().Resume(bounded(t), 0,
		operator.ResumeOptions{Choice: operator.Resend, InDoubt: -1, DryRun: true})
	if err != nil || got.Unexpected != 11 || len(got.Tail.UnexpectedReasons) != recovery.ExamplesMax {
		t.Errorf("%+v, %v; want 11 unexpected records, and %d sentences", got, err, recovery.ExamplesMax)
	}
	r.wantUnsent(0, 5)
}

// Payments in doubt are decided about all together, or not at all if they cannot all be claimed.
func TestOperator_InDoubtNotClaimable(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	r.create(0, 3)
	r.halt()
	tx, err := r.sql.Begin(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(bounded(t)) }()
	if _, err := tx.Exec(bounded(t), `select from payments limit 1 for update`); err != nil {
		t.Fatal(err)
	}
	if _, err := r.operator().Resume(bounded(t), 0,
		operator.ResumeOptions{Choice: operator.AssumeSent, InDoubt: 3}); err == nil ||
		!strings.Contains(err.Error(), "3 payments are in doubt, of which only 2 can be claimed") {
		t.Errorf("error %v", err)
	}
	r.wantLogged("begun ", "ended failed")
	r.wantUnsent(0, 3)
}

// A database from before the topic grew does not know the payments in the later partitions. A
// takeover notices these records, and sends nothing. Partitions that are just being added hold
// none, and are no obstacle.
func TestFenced_DatabaseFromBeforeGrowth(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 3)
	if err := r.cluster.GrowTopic(bounded(t), r.topic, 3); err != nil {
		t.Fatal(err)
	}
	until(t, "the new partitions have leaders", func() bool {
		ranges, err := r.cluster.Ranges(bounded(t), r.topic)
		return err == nil && len(ranges) == 3
	})
	f := r.ownFenced(r.replica(r.inFenced()))
	work(t, f)
	r.wantInOrder(0, all)
	f.reset()

	client, err := kgo.NewClient(kgo.SeedBrokers(r.broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(bounded(t), &kgo.Record{
		Topic: r.topic, Partition: 2,
		Value: []byte("of a later time"),
	}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.create(0, 2)
	f = r.ownFenced(r.replica(r.inFenced()))
	if _, err := f.step(bounded(t)); err == nil || halted(err) ||
		!strings.Contains(err.Error(), "partition 2 of topic "+r.topic+" holds records") {
		t.Errorf("error %v", err)
	}
	f.reset()
	r.wantUnsent(0, 2)
	if p := r.row(0); p.State != store.StateActive {
		t.Errorf("the partition is %s: %s", p.State, p.Reason)
	}
}
