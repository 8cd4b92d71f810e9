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

// gate keeps all of a store's rounds of creates waiting, each for a row that a transaction outside
// holds; what is created meanwhile is one round. The returned function opens it, and returns what
// became of the creates that were held.
func (f *fixture) gate() (open func() []outcome) {
	f.t.Helper()
	model := f.create(f.payment("model"))
	another := f.begin()
	held := make(chan outcome, store.CreateRoundsMax)
	for i := range store.CreateRoundsMax {
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
		for range store.CreateRoundsMax {
			outcomes = append(outcomes, receive(f.t, held))
		}
		return outcomes
	}
}

// behindGate creates each payment by a call of its own while the gate is shut, and opens it when
// all wait.
func (f *fixture) behindGate(payments []payment.Payment) []outcome {
	f.t.Helper()
	open := f.gate()
	before := f.CreatesUnderWay()
	done := make(chan []outcome, 1)
	go func() { done <- createAtOnce(f.t.Context(), []*store.Store{f.Store}, payments) }()
	f.await("all creates wait", func() bool { return f.CreatesUnderWay() == before+len(payments) })
	for _, o := range open() {
		if o.err != nil || o.replayed {
			f.t.Errorf("a create that held a round: replayed %t, %v", o.replayed, o.err)
		}
	}
	return receive(f.t, done)
}

// TestStore_Create_RoundOfEqualKeys: in one round, six calls have one key and content, and two have
// that key and other content. One stores the payment, the other five are replays of it, and the two
// are refused; or the other way round, as they come.
func TestStore_Create_RoundOfEqualKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	amounts := []string{"1", "1", "1", "2", "1", "2", "1", "1"}
	var payments []payment.Payment
	for _, amount := range amounts {
		payments = append(payments, f.payment("order-1", func(c *payment.Content) { c.Amount = amount }))
	}
	before := f.CreateRounds()
	outcomes := f.behindGate(payments)
	if rounds := f.CreateRounds() - before - 1 - store.CreateRoundsMax; rounds > store.CreateRoundsMax {
		// The model's and the held ones; and as many as may begin at once.
		t.Errorf("%d rounds for %d creates that waited together", rounds, len(payments))
	}
	stored, originals, refused := f.find(payments[0].ID), 0, 0
	for i, o := range outcomes {
		if reused, ok := errors.AsType[*payment.KeyReused](o.err); ok {
			if refused++; reused.ID != stored.ID || payments[i].Money == stored.Money {
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

// TestStore_Create_RoundWithARefusedRow: the database refuses one row of a round (a trigger stands
// for a check that the program does not know). The other payments are stored, and it alone is told;
// its error is none that a retry mends.
func TestStore_Create_RoundWithARefusedRow(t *testing.T) {
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

// TestStore_Create_DatabaseDiesInMidRound: the sessions of the rounds under way are ended while
// others wait. Nobody is told that a payment is stored which is not, nor that one is refused; the
// same calls made again store each payment once.
func TestStore_Create_DatabaseDiesInMidRound(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	f.gate()
	held := query[int](f, `select count(pg_terminate_backend(pid)) from pg_stat_activity
		where datname = current_database() and wait_event_type = 'Lock' and application_name = 'paylatch'`)
	if held != store.CreateRoundsMax {
		t.Fatalf("%d sessions were ended, want %d", held, store.CreateRoundsMax)
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

// TestStore_Create_CallerLeaves: a client goes away while its create is in a round, and another
// while its create waits. The first payment is stored all the same, and its retry is a replay; the
// second is not, and its retry stores it. Nobody else is disturbed.
func TestStore_Create_CallerLeaves(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	model, inRound, waiting := f.create(f.payment("model")), f.payment("in-round"), f.payment("waiting")
	another := f.begin()
	if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(inRound.ID), uuid.UUID(model.ID)); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan error, 2)
	go func() { _, _, err := f.Create(ctx, inRound); left <- err }()
	f.awaitBlocked(1)
	for i := 1; i < store.CreateRoundsMax; i++ { // The other rounds wait, too.
		p := f.payment("held-" + strconv.Itoa(i))
		if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(p.ID), uuid.UUID(model.ID)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _, _ = f.Create(t.Context(), p) }()
		f.awaitBlocked(i + 1)
	}
	go func() { _, _, err := f.Create(ctx, waiting); left <- err }()
	f.await("the create waits", func() bool { return f.CreatesUnderWay() == store.CreateRoundsMax+1 })
	leave()
	for range 2 {
		if err := receive(t, left); !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that left was told %v", err)
		}
	}
	if err := another.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.await("the rounds are over", func() bool { return f.CreatesUnderWay() == 0 })
	wantSame(t, f.find(inRound.ID), f.find(inRound.ID))
	if _, err := f.Find(t.Context(), f.tenant.TenantRef, waiting.ID); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("the payment that no round had taken: %v", err)
	}
	for p, want := range map[*payment.Payment]bool{&inRound: true, &waiting: false} {
		if _, replayed, err := f.Create(t.Context(), *p); err != nil || replayed != want {
			t.Errorf("the retry: replayed %t, %v, want %t", replayed, err, want)
		}
	}
}
