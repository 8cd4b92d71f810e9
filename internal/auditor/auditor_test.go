package auditor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/kafka"
)

func text(r auditor.Report) string {
	r.Examples = auditor.Examples{}
	return fmt.Sprintf("%+v", r)
}

// watched is a log at which a test interferes: look is called with the number of each look at the ends, from 1 on.
type watched struct {
	auditor.Log
	looks int
	look  func(n int, ends []kafka.Range)
}

func (w *watched) Ranges(ctx context.Context, topic string) ([]kafka.Range, error) {
	w.looks++
	if w.looks == 1 && w.look != nil { // What is done before the first look happens after the snapshot.
		w.look(0, nil)
	}
	ends, err := w.Log.Ranges(ctx, topic)
	if err == nil && w.look != nil {
		w.look(w.looks, ends)
	}
	return ends, err
}

// TestAudit_Clean audits payments that are all as they should be, and one that is not sent yet.
func TestAudit_Clean(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(5)
	r.create(1)
	log := &watched{Log: r.cluster}
	r.audit(log, auditor.Report{Payments: 6, Records: 5, Unsent: 1})
	if log.looks != 1 {
		t.Errorf("got %d looks at the ends, want 1: nothing was to be waited for", log.looks)
	}
}

// TestAudit_Faults makes one fault of each kind.
func TestAudit_Faults(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(3)
	ids := r.create(3)
	r.mark(ids[0], r.emit(0, ids[0]))
	r.emit(0, ids[0])                                 // A duplicate of a payment that is marked,
	r.emit(0, ids[1])                                 // one in flight,
	r.emit(0, ids[1])                                 // and a duplicate of that.
	r.mark(ids[2], 1)                                 // Missing: another payment's record is there.
	r.emit(0, "0198f0c2-7a3e-8c55-8c1f-2f6f3f0b9a11") // Unexpected: of no payment,
	r.emit(0, "no id")                                // and of nothing that could be one.
	want := auditor.Report{Payments: 6, Records: 9, Duplicates: 2, Missing: 1, Unexpected: 2, Unsent: 1}
	want.NotJudged.InFlight = 1
	r.audit(r.cluster, want)
}

// TestAudit_BeyondTheEnd marks payments at offsets that the log does not have, as if it had lost its tail: the first at
// the very end of the log. A second look is needed to believe it.
func TestAudit_BeyondTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	next := r.send(3)
	for n, id := range r.create(5) {
		r.mark(id, next+int64(n))
	}
	log := &watched{Log: r.cluster}
	r.audit(log, auditor.Report{Payments: 8, Records: 3, Missing: 5})
	if log.looks < 2 {
		t.Errorf("got %d looks at the ends, want more than 1", log.looks)
	}
}

// TestAudit_LowHighWatermark shows ends that are too low at the first look, as a new leader may.
func TestAudit_LowHighWatermark(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(5)
	log := &watched{Log: r.cluster, look: func(n int, ends []kafka.Range) {
		if n == 1 {
			ends[0].StableEnd, ends[0].End = 2, 2
		}
	}}
	r.audit(log, auditor.Report{Payments: 5, Records: 5})
	if log.looks != 2 {
		t.Errorf("got %d looks at the ends, want 2", log.looks)
	}
}

// TestAudit_Undecided sends behind an open transaction. Consumers do not see these payments before it is ended.
func TestAudit_Undecided(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(2)
	abort := r.open()
	r.send(4)
	r.audit(r.cluster, auditor.Report{Payments: 6, Records: 2, Undecided: 4})
	abort()
	r.audit(r.cluster, auditor.Report{Payments: 6, Records: 6})
}

// TestAudit_MarkerLate ends the transaction after the first look.
func TestAudit_MarkerLate(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	abort := r.open()
	r.send(4)
	log := &watched{Log: r.cluster, look: func(n int, ends []kafka.Range) {
		if n == 1 {
			if ends[0].StableEnd != 0 {
				t.Errorf("got stable end %d, want 0: nothing was tested", ends[0].StableEnd)
			}
			abort()
		}
	}}
	r.audit(log, auditor.Report{Payments: 4, Records: 4})
	if log.looks < 2 {
		t.Errorf("got %d looks at the ends, want more than 1", log.looks)
	}
}

// TestAudit_SentMeanwhile sends payments after the snapshot and before the first look: one that was stored before it,
// and three new ones. They are in flight. What may not be there is found among them all the same.
func TestAudit_SentMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(2)
	stored := r.create(1)[0]
	log := &watched{Log: r.cluster, look: func(n int, _ []kafka.Range) {
		if n != 0 {
			return
		}
		r.mark(stored, r.emit(0, stored))
		r.send(3)
		twice := r.create(1)[0]
		r.mark(twice, r.emit(0, twice))
		r.emit(0, twice)
		r.emit(0, "0198f0c2-7a3e-8c55-8c1f-2f6f3f0b9a11")
	}}
	want := auditor.Report{Payments: 3, Records: 9, Unsent: 1, Duplicates: 1, Unexpected: 1}
	want.NotJudged.InFlight = 5
	r.audit(log, want)
}

// TestAudit_UnknownPartition has a record in a partition that the database does not know, as after a restore.
func TestAudit_UnknownPartition(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.send(1)
	r.emit(1, "0198f0c2-7a3e-8c55-8c1f-2f6f3f0b9a11")
	r.audit(r.cluster, auditor.Report{Payments: 1, Records: 2, Unexpected: 1})
}

// TestAudit_Retention deletes the first records of the log.
func TestAudit_Retention(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(5)
	var front kadm.Offsets
	front.Add(kadm.Offset{Topic: r.topic, At: 3, LeaderEpoch: -1})
	if deleted, err := r.admin().DeleteRecords(bounded(t), front); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	want := auditor.Report{Payments: 5, Records: 2}
	want.NotJudged.DeletedRecords = 3
	r.audit(r.cluster, want)
}

// TestAudit_OtherTopic deletes the topic and creates it again. Nothing is judged then.
func TestAudit_OtherTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(1)
	if _, err := r.admin().DeleteTopic(bounded(t), r.topic); err != nil {
		t.Fatal(err)
	}
	r.createTopic(1)
	if _, err := auditor.Audit(bounded(t), r.store, r.cluster); !errors.Is(err, auditor.ErrOtherTopic) {
		t.Errorf("got %v, want %v", err, auditor.ErrOtherTopic)
	}
}
