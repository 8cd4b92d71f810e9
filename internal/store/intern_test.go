package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// crossed makes a payment from a to b, or back. Both parties and both accounts are then in the
// other order.
func crossed(f *fixture, key, a, b string) payment.Payment {
	return f.payment(key, func(c *payment.Content) {
		c.Originator, c.Beneficiary = payment.PartyContent{ID: a, Name: a}, payment.PartyContent{ID: b, Name: b}
		c.Sender, c.Receiver = payment.AccountContent{Type: "checking", Number: a},
			payment.AccountContent{Type: "checking", Number: b}
	})
}

// TestStore_Intern_CrossedNeverDeadlock: three replicas with empty caches create payments from
// every party to every other and back at once. If the rows were inserted as they arrive, A→B and
// B→A would each hold what the other waits for, and PostgreSQL would end one.
func TestStore_Intern_CrossedNeverDeadlock(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	for round := range 5 {
		fresh := []*store.Store{openStore(t, f.url), openStore(t, f.url), openStore(t, f.url)}
		var payments []payment.Payment
		for a := range 8 {
			for b := range 8 {
				if a != b {
					key := fmt.Sprintf("%d-%d-%d", round, a, b)
					payments = append(payments,
						crossed(f, key, fmt.Sprintf("%d-%d", round, a), fmt.Sprintf("%d-%d", round, b)))
				}
			}
		}
		for i, o := range createAtOnce(t.Context(), fresh, payments) {
			if errors.Is(o.err, context.DeadlineExceeded) {
				// The machine is slow. PostgreSQL ends a deadlock after a second, with another
				// error.
				o.stored, _, o.err = f.Create(t.Context(), payments[i])
			}
			if o.err != nil || o.replayed {
				t.Fatalf("replayed %t, %v", o.replayed, o.err)
			}
			wantSame(t, o.stored, f.find(o.stored.ID))
		}
	}
	if n := query[int](f, `select count(*) from parties`); n != 5*8 {
		t.Errorf("%d parties, want %d", n, 5*8)
	}
	if n := query[int](f, `select count(*) from accounts`); n != 5*8 {
		t.Errorf("%d accounts, want %d", n, 5*8)
	}
}

// TestStore_Intern_OneOrder forces the situation that deadlocks without an order. A third
// transaction holds `m`. A payment a→m has inserted a and waits for m; a payment m→a arrives. In
// the order of the unique key it waits for a, behind the first, and holds nothing. Otherwise it
// would queue for m, too, get it as likely as the first, and hold it while it waits for a.
func TestStore_Intern_OneOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	second := openStore(t, f.url)
	for round := range 10 {
		a, m := fmt.Sprintf("a%d", round), fmt.Sprintf("m%d", round)
		holder := f.begin()
		if _, err := holder.Exec(t.Context(), `insert into parties (tenant_id, party_id, name) values ($1, $2, $2)`,
			f.tenant.ID, m); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 2)
		for i, p := range []payment.Payment{crossed(f, "there-"+a, a, m), crossed(f, "back-"+a, m, a)} {
			go func() {
				_, _, err := []*store.Store{f.Store, second}[i].Create(t.Context(), p)
				errs <- err
			}()
			f.awaitBlocked(i + 1)
		}
		behind := query[int](f, `select count(*) from pg_stat_activity where datname = current_database()
			and wait_event_type = 'Lock' and $1 <> all (pg_blocking_pids(pid))`, holder.Conn().PgConn().PID())
		if behind != 1 {
			t.Errorf("%d creates wait behind the other one, want 1", behind)
		}
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := receive(t, errs); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestStore_Intern_OneRowPerContent: within a tenant there is one row for one content, whatever its
// role and whichever replica writes it. Tenants share no row, so that an id reveals nothing of
// another tenant.
func TestStore_Intern_OneRowPerContent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	other := f.newTenant("other")
	for i, s := range []*store.Store{f.Store, openStore(t, f.url)} {
		for _, tenant := range []payment.Tenant{f.tenant, other} {
			for n := range 3 {
				key := strconv.Itoa(i) + "-" + strconv.Itoa(n)
				if _, _, err := s.Create(t.Context(), newPayment(t, tenant, key)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, table := range []string{"parties", "accounts"} {
		if n := query[int](f, `select count(*) from `+table); n != 4 {
			t.Errorf("%d %s, want two for each of two tenants", n, table)
		}
	}
	foreign := query[int](f, `select count(*) from payments p
		join parties o on o.id = p.originator_id join parties b on b.id = p.beneficiary_id
		join accounts s on s.id = p.sender_id join accounts r on r.id = p.receiver_id
		where (p.tenant_id, p.tenant_id, p.tenant_id, p.tenant_id) is distinct
		from (o.tenant_id, b.tenant_id, s.tenant_id, r.tenant_id)`)
	if foreign != 0 {
		t.Errorf("%d payments use another tenant's rows", foreign)
	}
	ids := query[[]int64](f, `select array_agg(distinct originator_id order by originator_id) from payments`)
	if len(slices.Compact(ids)) != 2 {
		t.Errorf("originators are rows %d, want one for each tenant", ids)
	}
}

// TestStore_Intern_FailedInsertIsForgotten: the insert of a party fails once, during its statement.
// Its id must not be cached, or later payments would refer to a row that does not exist. The same
// create then succeeds.
func TestStore_Intern_FailedInsertIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	f.exec(`create function fail() returns trigger language plpgsql as $$ begin raise 'disk full' using errcode =
		'53100'; end $$`)
	f.exec(`create constraint trigger fail after insert on parties deferrable initially deferred for each row execute
		function fail()`)
	_, _, err := f.Create(t.Context(), f.payment("order-1"))
	wantUnavailable(t, err, "53100")
	if n := query[int](f, `select count(*) from parties`); n != 0 {
		t.Fatalf("%d parties, want none", n)
	}
	f.exec(`drop trigger fail on parties`)
	wantSame(t, f.find(f.create(f.payment("order-1")).ID), f.find(f.payment("order-1").ID))
}
