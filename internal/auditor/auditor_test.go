package auditor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/test/parts"
)

func text(r auditor.Report) string {
	r.Examples = auditor.Examples{}
	return fmt.Sprintf("%+v", r)
}

// hookedLog calls hook with each read of the ends. n counts the reads from 1. Before the first
// read, and after the snapshot, it calls hook with n = 0.
type hookedLog struct {
	auditor.Log
	reads int
	hook  func(n int, ends []kafka.Range)
}

func (l *hookedLog) Ranges(ctx context.Context, topic string) ([]kafka.Range, error) {
	l.reads++
	if l.reads == 1 && l.hook != nil {
		l.hook(0, nil)
	}
	ends, err := l.Log.Ranges(ctx, topic)
	if err == nil && l.hook != nil {
		l.hook(l.reads, ends)
	}
	return ends, err
}

// TestAudit_Clean audits payments without a fault, and one that is not sent yet. One read of the
// ends is enough.
func TestAudit_Clean(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(5)
	r.create(1)
	log := &hookedLog{Log: r.cluster}
	r.audit(log, auditor.Report{Payments: 6, Records: 5, Unsent: 1})
	if log.reads != 1 {
		t.Errorf("got %d reads of the ends, want 1", log.reads)
	}
}

// TestAudit_Faults makes one fault of each kind.
func TestAudit_Faults(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(3)
	ids := r.create(3)
	r.mark(ids[0], r.emit(0, ids[0]))
	r.emit(0, ids[0]) // A duplicate of a payment that is marked.
	r.emit(0, ids[1]) // In flight.
	r.emit(0, ids[1]) // A duplicate of the one in flight.
	r.mark(ids[2], 1) // Missing: the record of another payment is there.
	// Unexpected: the id of no payment, and a key that is no id.
	r.emit(0, "0198f0c2-7a3e-8c55-8c1f-2f6f3f0b9a11")
	r.emit(0, "no id")
	want := auditor.Report{Payments: 6, Records: 9, Duplicates: 2, Missing: 1, Unexpected: 2, Unsent: 1}
	want.NotJudged.InFlight = 1
	r.audit(r.cluster, want)
}

// TestAudit_Differing changes a row behind the triggers, removes a party of another, and replaces
// the record of a third. The audit is clean before, and counts all three after.
func TestAudit_Differing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(600) // More than one chunk of rows.
	ids := r.create(2)
	r.mark(ids[0], r.emit(0, ids[0]))
	r.audit(r.cluster, auditor.Report{Payments: 602, Records: 601, Unsent: 1})

	event := r.event(ids[1])
	event.Value = bytes.Replace(event.Value, []byte(`"amount":1,`), []byte(`"amount":2,`), 1)
	r.mark(ids[1], r.append(0, event))
	r.audit(r.cluster, auditor.Report{Payments: 602, Records: 602, Differing: 1})

	if _, err := r.sql.Exec(bounded(t), `update payments set amount = amount + 1 where id = $1`, ids[0]); err == nil {
		t.Error("got no error from the change of an amount, want one from the trigger")
	}
	for _, sql := range []string{
		`update payments set amount = amount + 1 where id = $1`,
		`update payments set beneficiary_id = 1000000 where kafka_offset = 3 and id <> $1`,
	} {
		if tag, err := parts.Tamper(bounded(t), r.sql, sql, ids[0]); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("%s: %s, %v", sql, tag, err)
		}
	}
	r.audit(r.cluster, auditor.Report{Payments: 602, Records: 602, Differing: 3})
}

// TestAudit_BeyondEnd marks payments at offsets that the log does not have, as if it had lost its
// tail. The first offset is the end of the log. The ends are read again before that is reported.
func TestAudit_BeyondEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	next := r.send(3)
	for n, id := range r.create(5) {
		r.mark(id, next+int64(n))
	}
	log := &hookedLog{Log: r.cluster}
	r.audit(log, auditor.Report{Payments: 8, Records: 3, Missing: 5})
	if log.reads < 2 {
		t.Errorf("got %d reads of the ends, want more than 1", log.reads)
	}
}

// TestAudit_LowHighWatermark returns ends that are too low at the first read, as a new leader may.
func TestAudit_LowHighWatermark(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(5)
	log := &hookedLog{Log: r.cluster, hook: func(n int, ends []kafka.Range) {
		if n == 1 {
			ends[0].StableEnd, ends[0].End = 2, 2
		}
	}}
	r.audit(log, auditor.Report{Payments: 5, Records: 5})
	if log.reads != 2 {
		t.Errorf("got %d reads of the ends, want 2", log.reads)
	}
}

// TestAudit_Hidden sends after an open transaction. Consumers cannot read these payments before
// it ends.
func TestAudit_Hidden(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(2)
	abort := r.open()
	r.send(4)
	r.audit(r.cluster, auditor.Report{Payments: 6, Records: 2, Hidden: 4})
	abort()
	r.audit(r.cluster, auditor.Report{Payments: 6, Records: 6})
}

// TestAudit_MarkerLate ends the transaction after the first read of the ends.
func TestAudit_MarkerLate(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	abort := r.open()
	r.send(4)
	log := &hookedLog{Log: r.cluster, hook: func(n int, ends []kafka.Range) {
		if n == 1 {
			if ends[0].StableEnd != 0 {
				t.Errorf("got stable end %d at the first read, want 0", ends[0].StableEnd)
			}
			abort()
		}
	}}
	r.audit(log, auditor.Report{Payments: 4, Records: 4})
	if log.reads < 2 {
		t.Errorf("got %d reads of the ends, want more than 1", log.reads)
	}
}

// TestAudit_InFlight sends payments after the snapshot and before the first read of the ends: one
// that was stored before the snapshot, and new ones. They are in flight. A duplicate and an
// unexpected record among them are still found.
func TestAudit_InFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.send(2)
	stored := r.create(1)[0]
	log := &hookedLog{Log: r.cluster, hook: func(n int, _ []kafka.Range) {
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

// TestAudit_UnknownPartition has a record in a partition that the database does not know, as after
// a restore.
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

// TestAudit_OtherTopic deletes the topic and creates it again. The audit is refused then.
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
