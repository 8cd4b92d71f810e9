package store_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// gate blocks all batches of creates of the store. Each waits for a row that a transaction outside
// the store holds. What is created after that is one batch. The returned function unblocks them,
// and returns the outcomes of the creates that were blocked.
func (f *fixture) gate() (open func() []outcome) {
	f.t.Helper()
	model := f.create(f.payment("model"))
	another := f.begin()
	held := make(chan outcome, store.CreateBatchesMax)
	for i := range store.CreateBatchesMax {
		p := f.payment("held-" + strconv.Itoa(i))
		if _, err := another.Exec(f.t.Context(), copyPayment, uuid.UUID(p.ID), uuid.UUID(model.ID)); err != nil {
			f.t.Fatal(err)
		}
		go func() {
			stored, replayed, err := f.Create(f.t.Context(), p)
			held <- outcome{stored, replayed, err}
		}()
		f.awaitBlocked(i + 1)
	}
	return func() (outcomes []outcome) {
		f.t.Helper()
		if err := another.Rollback(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
		for range store.CreateBatchesMax {
			outcomes = append(outcomes, receive(f.t, held))
		}
		return outcomes
	}
}

// behindGate creates each payment by a call of its own while the gate is closed, and opens it when
// all wait.
func (f *fixture) behindGate(payments []payment.Payment) []outcome {
	f.t.Helper()
	open := f.gate()
	before := f.CreatesPending()
	done := make(chan []outcome, 1)
	go func() { done <- createAtOnce(f.t.Context(), []*store.Store{f.Store}, payments) }()
	f.await("all creates wait", func() bool { return f.CreatesPending() == before+len(payments) })
	for _, o := range open() {
		if o.err != nil || o.replayed {
			f.t.Errorf("a create that held a batch: replayed %t, %v", o.replayed, o.err)
		}
	}
	return receive(f.t, done)
}

// TestStore_Create_BatchOfEqualKeys: in one batch, six calls have one key and content, and two have
// that key and other content. One stores the payment, the other five are replays of it, and the two
// are refused; or the other way round, as they come.
func TestStore_Create_BatchOfEqualKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	amounts := []string{"1", "1", "1", "2", "1", "2", "1", "1"}
	var payments []payment.Payment
	for _, amount := range amounts {
		payments = append(payments, f.payment("order-1", func(c *payment.Content) { c.Amount = amount }))
	}
	before := f.CreateBatches()
	outcomes := f.behindGate(payments)
	if batches := f.CreateBatches() - before - 1 - store.CreateBatchesMax; batches > store.CreateBatchesMax {
		// Not counted are the batch of the model and the blocked ones. As many as may run at once
		// may start.
		t.Errorf("got %d batches for %d creates that waited together, want at most the batches that run at once",
			batches, len(payments))
	}
	stored, originals, refused := f.find(payments[0].ID), 0, 0
	for i, o := range outcomes {
		if reused, ok := errors.AsType[*payment.KeyReusedError](o.err); ok {
			refused++
			if reused.ID != stored.ID || payments[i].Money == stored.Money {
				t.Errorf("call %d was refused: %v", i, o.err)
			}
			continue
		}
		if o.err != nil {
			t.Fatal(o.err)
		}
		if !o.replayed {
			originals++
		}
		wantSame(t, o.stored, stored)
	}
	if wantRefused := map[int64]int{1: 2, 2: 6}[stored.Money.Minor]; originals != 1 || refused != wantRefused {
		t.Errorf("%d originals and %d refused, want 1 and %d", originals, refused, wantRefused)
	}
}

// TestStore_Create_BatchWithARefusedRow: the database refuses one row of a batch. A trigger stands
// for a check that the program does not know. The other payments are stored. Only this one fails,
// with an error that no retry can fix.
func TestStore_Create_BatchWithARefusedRow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	f.exec(`create function refuse() returns trigger language plpgsql as
		$$ begin if new.amount = 13 then raise 'no' using errcode = 'check_violation'; end if; return new; end $$`)
	f.exec(`create trigger refuse before insert on payments for each row execute function refuse()`)
	var payments []payment.Payment
	for i := range 20 {
		payments = append(payments, f.payment("order-"+strconv.Itoa(i),
			func(c *payment.Content) { c.Amount = strconv.Itoa(i + 1) }))
	}
	for i, o := range f.behindGate(payments) {
		switch {
		case i == 12:
			if o.err == nil || errors.Is(o.err, payment.ErrUnavailable) {
				t.Errorf("the refused row's error is %v", o.err)
			}
			if _, err := f.Find(t.Context(), f.tenant.TenantRef, payments[i].ID); !errors.Is(err, payment.ErrNotFound) {
				t.Errorf("the refused payment: %v", err)
			}
		case o.err != nil || o.replayed:
			t.Errorf("payment %d: replayed %t, %v", i, o.replayed, o.err)
		default:
			wantSame(t, o.stored, f.find(payments[i].ID))
		}
	}
}

// TestStore_Create_DatabaseDiesInMidBatch: the sessions of the running batches are ended while
// other creates wait. No call reports a payment as stored that is not, or as refused. The same
// calls made again store each payment once.
func TestStore_Create_DatabaseDiesInMidBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	f.gate()
	held := query[int](f, `select count(pg_terminate_backend(pid)) from pg_stat_activity
		where datname = current_database() and wait_event_type = 'Lock' and application_name = 'paylatch'`)
	if held != store.CreateBatchesMax {
		t.Fatalf("%d sessions were ended, want %d", held, store.CreateBatchesMax)
	}
	var payments []payment.Payment
	for i := range 50 {
		payments = append(payments, f.payment("order-"+strconv.Itoa(i)))
	}
	for attempt := range 3 {
		lost := 0
		for i, o := range createAtOnce(t.Context(), []*store.Store{f.Store}, payments) {
			switch {
			case errors.Is(o.err, payment.ErrUnavailable):
				lost++
			case o.err != nil:
				t.Errorf("payment %d: %v", i, o.err)
			default:
				wantSame(t, o.stored, f.find(payments[i].ID))
			}
		}
		if lost == 0 {
			break
		}
		if attempt == 2 {
			t.Fatalf("%d creates still find no database", lost)
		}
	}
}

// TestStore_Create_CallerLeaves: a client goes away while its create is in a batch, and another one
// while its create waits. The first payment is stored all the same, and its retry is a replay. The
// second is not stored, and its retry stores it. No other call is disturbed.
func TestStore_Create_CallerLeaves(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	model, inBatch, waiting := f.create(f.payment("model")), f.payment("in-batch"), f.payment("waiting")
	another := f.begin()
	if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(inBatch.ID), uuid.UUID(model.ID)); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan error, 2)
	go func() { _, _, err := f.Create(ctx, inBatch); left <- err }()
	f.awaitBlocked(1)
	for i := 1; i < store.CreateBatchesMax; i++ { // The other batches wait, too.
		p := f.payment("held-" + strconv.Itoa(i))
		if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(p.ID), uuid.UUID(model.ID)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _, _ = f.Create(t.Context(), p) }()
		f.awaitBlocked(i + 1)
	}
	go func() { _, _, err := f.Create(ctx, waiting); left <- err }()
	f.await("the create waits", func() bool { return f.CreatesPending() == store.CreateBatchesMax+1 })
	leave()
	for range 2 {
		if err := receive(t, left); !errors.Is(err, context.Canceled) {
			t.Errorf("the error of the caller that left is %v, want context.Canceled", err)
		}
	}
	if err := another.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.await("the batches end", func() bool { return f.CreatesPending() == 0 })
	wantSame(t, f.find(inBatch.ID), f.find(inBatch.ID))
	if _, err := f.Find(t.Context(), f.tenant.TenantRef, waiting.ID); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("the payment that no batch had taken: %v", err)
	}
	for p, want := range map[*payment.Payment]bool{&inBatch: true, &waiting: false} {
		if _, replayed, err := f.Create(t.Context(), *p); err != nil || replayed != want {
			t.Errorf("the retry: replayed %t, %v, want %t", replayed, err, want)
		}
	}
}
