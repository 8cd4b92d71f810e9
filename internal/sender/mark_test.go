package sender

import (
	"strings"
	"testing"
)

// TestSender_Batch_MarkRefused: the broker has acknowledged a batch, and PostgreSQL refuses the
// mark, as with a full disk. The session lives, so the owner knows what it has published. However
// often it tries again, it does not publish the batch again, and marks it where it is once that is
// possible.
func TestSender_Batch_MarkRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 30)
	o := r.own(r.replica(batches(10)), 0)
	sendBatch(t, o)
	r.exec(`create function refuse() returns trigger language plpgsql as $$ begin raise 'no space left' using errcode =
		'disk_full'; end $$`)
	r.exec(`create trigger refuse before update on payments for each row execute function refuse()`)
	for range 5 {
		if again, err := o.sendBatch(bounded(t)); err == nil || again || !strings.Contains(err.Error(), "53100") ||
			o.session.Lost() {
			t.Fatalf("again %t, error %v, session lost %t: nothing was tested", again, err, o.session.Lost())
		}
	}
	r.wantInOrder(0, all[:20])
	r.wantUnsent(0, 20)
	r.exec(`drop trigger refuse on payments`)
	r.drain(o)
	r.wantInOrder(0, all)
	r.wantRow(0, 30)
	r.verdict()
}

// TestSender_Batch_IndexBuilt: while an index is built (CREATE INDEX holds a share lock), rows
// cannot be marked. Then nothing may be published either: the claim takes the lock that its mark
// will need.
func TestSender_Batch_IndexBuilt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 10)
	o := r.own(r.replica(batches(10)), 0)
	tx, err := r.sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table payments in share mode`); err != nil {
		t.Fatal(err)
	}
	if _, err := o.sendBatch(bounded(t)); err == nil {
		t.Error("the batch was sent: nothing was tested")
	}
	r.wantInOrder(0)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.drain(o)
	r.wantInOrder(0, all)
	r.verdict()
}
