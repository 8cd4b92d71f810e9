package store_test

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// TestFault_InternedAfterRestore: the database is restored to an earlier state (or fails over to a
// standby that lacks the last commits) while a replica runs. The parties in its cache are gone, and
// other parties have their ids. Payments have no foreign keys, so no check would notice if the next
// one were stored with cached ids.
func TestFault_InternedAfterRestore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	url, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(url.Path, "/")
	earlier := name + "_earlier"
	url.Path = "/postgres"
	elsewhere := openDB(t, url.String())
	run := func(sql string) {
		t.Helper()
		if _, err := elsewhere.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	disconnect := `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '` + name + `'`
	f.await("a copy of the database", func() bool {
		// The store opens idle connections again at once.
		run(disconnect)
		_, err := elsewhere.Exec(t.Context(), `create database `+earlier+` template `+name)
		return err == nil
	})
	back := func(p payment.Payment) (stored payment.Payment) {
		// The pool must first notice that its connections are dead.
		f.await("the replica is back", func() bool {
			var err error
			stored, _, err = f.Create(t.Context(), p)
			return err == nil
		})
		return stored
	}
	back(crossed(f, "before", "a", "b")) // Remembered, and in a moment gone.
	run(`drop database ` + name + ` with (force)`)
	run(`alter database ` + earlier + ` rename to ` + name)
	others := openStore(t, f.url)
	if _, _, err := others.Create(t.Context(), crossed(f, "others", "y", "z")); err != nil {
		t.Fatal(err)
	}
	stored := back(crossed(f, "after", "a", "b"))
	wantSame(t, f.find(stored.ID), stored)
}

// TestFault_Truncate: parties, accounts and tenants cannot be truncated: triggers keep their rows.
func TestFault_Truncate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.create(f.payment("order-1"))
	for _, table := range []string{"parties", "accounts", "tenants cascade"} {
		if _, err := f.db.Exec(t.Context(), `truncate `+table); err == nil {
			t.Errorf("%s could be truncated", table)
		}
	}
}

// TestFault_SynchronousCommit: the package promises synchronous commits. A role or database with
// another default would make every 202 one that a crash may take back, so the store sets it.
func TestFault_SynchronousCommit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.exec(`alter database ` + query[string](f, `select quote_ident(current_database())`) +
		` set synchronous_commit = off`)
	f.exec(`create function assert_synchronous() returns trigger language plpgsql as $$ begin
		if current_setting('synchronous_commit') = 'off' then raise 'synchronous_commit is off'; end if; return new; end
		$$`)
	f.exec(`create trigger s before insert on payments for each row execute function assert_synchronous()`)
	s := openStore(t, f.url)
	if _, _, err := s.Create(t.Context(), f.payment("order-1")); err != nil {
		t.Errorf("create: %v", err)
	}
	session, err := s.Own(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var setting string
	if err := session.Conn().QueryRow(t.Context(), `show synchronous_commit`).Scan(&setting); err != nil ||
		setting == "off" {
		t.Errorf("a sender's session has synchronous_commit %s, %v", setting, err)
	}
}

// TestFault_BatchOfOneKey: several payments with one key are in one batch, each with other content.
// If columns sorted them with slices.SortFunc, which is not stable (from 13 elements on),
// createBatch would take the first in the batch for the one that was stored: a caller would be told
// that its content was created while another one's was.
func TestFault_BatchOfOneKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	for round := range 20 {
		var batch []payment.Payment
		for i := range 60 {
			key := fmt.Sprintf("%d-%d", round, i%7)
			batch = append(batch, f.payment(key, func(c *payment.Content) { c.Amount = strconv.Itoa(i + 1) }))
		}
		stored, errs, err := f.CreateBatch(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range stored {
			if errs[i] == nil {
				if there := f.find(p.ID); there.Money != p.Money {
					t.Fatalf("round %d: %s was answered as created, %s is stored", round, p.Money, there.Money)
				}
			}
		}
	}
}

// TestFault_CloseIsNotAtOnce: Session.Close must not return before PostgreSQL has released the
// advisory lock (pgx 5 sends Terminate and does not wait for the server to close). The sender then
// requests a rebalance, and a replica that observes at once would still see the partition as owned.
func TestFault_CloseIsNotAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	const rounds = 50
	owned, seen := 0, 0
	p := f.register()
	for range rounds {
		session, err := f.Own(t.Context(), 0)
		for ; errors.Is(err, store.ErrOwned); session, err = f.Own(t.Context(), 0) {
			owned++
		}
		if err != nil {
			t.Fatal(err)
		}
		session.Close()
		if f.observe(p).Owned[0] {
			seen++
		}
	}
	if owned+seen > 0 {
		t.Errorf("in %d rounds, Own after Close failed %d times, and Observe after Close saw an owner %d times, want 0",
			rounds, owned, seen)
	}
}
