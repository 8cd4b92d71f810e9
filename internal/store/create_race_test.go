package store_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// outcome is what one of several concurrent creates returned.
type outcome struct {
	stored   payment.Payment
	replayed bool
	err      error
}

// createAtOnce creates each payment in a goroutine of its own. They are distributed over the
// stores, and start together.
func createAtOnce(ctx context.Context, stores []*store.Store, payments []payment.Payment) []outcome {
	outcomes := make([]outcome, len(payments))
	start := make(chan struct{})
	var all sync.WaitGroup
	for i, p := range payments {
		all.Go(func() {
			<-start
			o := &outcomes[i]
			o.stored, o.replayed, o.err = stores[i%len(stores)].Create(ctx, p)
		})
	}
	close(start)
	all.Wait()
	return outcomes
}

// TestStore_Create_ConcurrentSameContent: the retries of a client reach three replicas at once, 200
// times. There is one row, one call that made it, and 199 that get the same payment.
func TestStore_Create_ConcurrentSameContent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	replicas := []*store.Store{f.Store, openStore(t, f.url), openStore(t, f.url)}
	const calls = 200
	outcomes := createAtOnce(t.Context(), replicas, slices.Repeat([]payment.Payment{f.payment("order-1")}, calls))

	stored, originals := f.find(outcomes[0].stored.ID), 0
	for _, o := range outcomes {
		if o.err != nil {
			t.Fatal(o.err)
		}
		if !o.replayed {
			originals++
		}
		wantSame(t, o.stored, stored)
	}
	if rows := query[int](f, `select count(*) from payments`); originals != 1 || rows != 1 {
		t.Errorf("%d originals and %d rows of %d calls, want 1 and 1", originals, rows, calls)
	}
}

// TestStore_Create_ConcurrentOtherContent: fifty programs use one key for fifty different payments
// at once. One of them is stored. The others are refused, with its id.
func TestStore_Create_ConcurrentOtherContent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	var payments []payment.Payment
	for amount := range 50 {
		payments = append(payments, f.payment("order-1",
			func(c *payment.Content) { c.Amount = strconv.Itoa(amount + 1) }))
	}
	outcomes := createAtOnce(t.Context(), []*store.Store{f.Store, openStore(t, f.url), openStore(t, f.url)}, payments)

	stored, winners := f.find(payments[0].ID), 0
	for _, o := range outcomes {
		if o.err == nil {
			winners++
			wantSame(t, o.stored, stored)
			continue
		}
		reused, ok := errors.AsType[*payment.KeyReusedError](o.err)
		if !ok || reused.ID != stored.ID || !slices.Equal(reused.Differs, []string{"/amount"}) {
			t.Errorf("a loser got %v, want a *KeyReused of /amount", o.err)
		}
	}
	if rows := query[int](f, `select count(*) from payments`); winners != 1 || rows != 1 {
		t.Errorf("%d winners and %d rows, want 1 and 1", winners, rows)
	}
}

// TestStore_Create_WaitsForAnother: another transaction has inserted the same id and has not
// committed. The create must wait for its outcome. A row that then commits is invisible to the
// snapshot of the create, and one that rolls back never existed. The test holds that transaction
// open until the create waits for a lock.
func TestStore_Create_WaitsForAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end      func(pgx.Tx, context.Context) error
		change   func(*payment.Content)
		replayed bool
		differs  []string
	}{
		"Commits": {end: pgx.Tx.Commit, replayed: true},
		"CommitsOtherContent": {
			end: pgx.Tx.Commit, change: func(c *payment.Content) { c.Amount = "1" },
			differs: []string{"/amount"},
		},
		"RollsBack": {end: pgx.Tx.Rollback},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 12)
			model, p := f.create(f.payment("model")), f.payment("order-1")
			if c.change != nil {
				p = f.payment("order-1", c.change)
			}
			another := f.begin()
			if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(p.ID), uuid.UUID(model.ID)); err != nil {
				t.Fatal(err)
			}
			created := make(chan outcome, 1)
			go func() {
				stored, replayed, err := f.Create(t.Context(), p)
				created <- outcome{stored, replayed, err}
			}()
			f.awaitBlocked(1)
			if err := c.end(another, t.Context()); err != nil {
				t.Fatal(err)
			}
			o := receive(t, created)
			if reused, ok := errors.AsType[*payment.KeyReusedError](o.err); ok != (c.differs != nil) || ok &&
				!slices.Equal(reused.Differs, c.differs) {
				t.Fatalf("error %v, want the differences %q", o.err, c.differs)
			} else if ok {
				return
			}
			if o.err != nil || o.replayed != c.replayed {
				t.Fatalf("replayed %t, %v, want %t", o.replayed, o.err, c.replayed)
			}
			wantSame(t, o.stored, f.find(p.ID))
		})
	}
}

// TestStore_Create_BatchesMeet: creates that are committed together insert several ids in one
// statement. Two replicas with the same ids in opposite orders must wait for each other and not
// deadlock. Every payment is stored once.
func TestStore_Create_BatchesMeet(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	stores := []*store.Store{f.Store, openStore(t, f.url)}
	const rounds, size = 20, 40
	for round := range rounds {
		batch := make([]payment.Payment, size)
		for i := range batch {
			batch[i] = f.payment("order-" + strconv.Itoa(round) + "-" + strconv.Itoa(i))
		}
		reversed := slices.Clone(batch)
		slices.Reverse(reversed)
		errs := make(chan error, len(stores))
		for i, b := range [][]payment.Payment{batch, reversed} {
			go func() {
				_, own, err := stores[i].CreateBatch(t.Context(), b)
				errs <- errors.Join(append(own, err)...)
			}()
		}
		for range stores {
			if err := receive(t, errs); err != nil {
				t.Fatal(err)
			}
		}
	}
	if rows := query[int](f, `select count(*) from payments`); rows != rounds*size {
		t.Errorf("%d rows, want %d", rows, rounds*size)
	}
}
