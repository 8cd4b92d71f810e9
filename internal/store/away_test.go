package store_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// everyCall makes each call of the store that queries the database, by name.
func everyCall(t testing.TB, ctx context.Context, s *store.Store, p payment.Payment) map[string]error {
	key := newKey(t)
	errs := map[string]error{
		"RevokeAPIKey":   s.RevokeAPIKey(ctx, "acme", 1),
		"InitPartitions": s.InitPartitions(ctx, topic, uuid.New(), store.DeliveryFenced, make([]int64, 3)),
		"Halt":           s.Halt(ctx, 0, "why"),
		"Resume":         s.Resume(ctx, 0),
	}
	_, errs["Ready"] = s.Ready(ctx)
	_, _, errs["Create"] = s.Create(ctx, p)
	_, errs["Find"] = s.Find(ctx, p.Tenant, p.ID)
	_, errs["FindDerived"] = s.FindDerived(ctx, p.Tenant, p.ID)
	_, errs["Authenticate"] = s.Authenticate(ctx, key.Hash())
	_, errs["CreateTenant"] = s.CreateTenant(ctx, "new")
	_, errs["AddAPIKey"] = s.AddAPIKey(ctx, "acme", key, store.Unrestricted)
	_, errs["Tenants"] = s.Tenants(ctx)
	_, errs["Partitions"] = s.Partitions(ctx)
	_, errs["Backlog"] = s.Backlog(ctx)
	return errs
}

// somewhere is a payment for a database that cannot be queried for a tenant.
func somewhere(t testing.TB) payment.Payment {
	t.Helper()
	return newPayment(t, payment.Tenant{TenantRef: payment.TenantRef{ID: 1, Name: "acme"}}, "order-1")
}

// TestStore_Away_Refused: no program listens where the database should be. All calls return
// payment.ErrUnavailable. Above all, an API key is then not "wrong", and a payment not "not found".
func TestStore_Away_Refused(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := "postgres://paylatch:paylatch@" + listener.Addr().String() + "/paylatch?sslmode=disable"
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, nowhere)
	errs := everyCall(t, t.Context(), s, somewhere(t))
	_, errs["Own"] = s.Own(t.Context(), 0)
	_, errs["Register"] = s.Register(t.Context(), store.DeliveryLocked)
	_, errs["MigrationStatus"] = store.MigrationStatus(t.Context(), nowhere, migrations.FS)
	for call, err := range errs {
		wantUnavailable(t, err)
		if errors.Is(err, payment.ErrUnauthorized) || errors.Is(err, payment.ErrNotFound) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// TestStore_Away_NoSchema: the database is empty. The error names the missing command, and once
// that was executed, the same store works.
func TestStore_Away_NoSchema(t *testing.T) {
	t.Parallel()
	empty := parts.EmptyPostgres(t)
	s := openStore(t, empty)
	for _, err := range everyCall(t, t.Context(), s, somewhere(t)) {
		wantUnavailable(t, err, "paylatch migrate up")
	}
	if _, err := store.MigrateUp(t.Context(), empty, migrations.FS); err != nil {
		t.Fatal(err)
	}
	var tenant payment.Tenant
	eventually(t, waitMost, "the schema is seen", func() (seen bool) {
		// The refusal is remembered for a moment.
		var err error
		tenant, err = s.CreateTenant(t.Context(), "acme")
		return err == nil
	})
	if err := s.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryLocked, []int64{0}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(t.Context(), newPayment(t, tenant, "order-1")); err != nil {
		t.Error(err)
	}
}

// TestStore_Away_InTheMiddle: a create waits for another transaction when its own statement fails:
// its backend is terminated, or a timeout ends it. The caller gets payment.ErrUnavailable, and
// nothing is stored. The same create then succeeds with the same store.
func TestStore_Away_InTheMiddle(t *testing.T) {
	t.Parallel()
	const blocked = `datname = current_database() and wait_event_type = 'Lock'`
	for name, c := range map[string]struct {
		setting, value string
		strike         string
		code           string
	}{
		"Terminated": {
			"application_name", "paylatch",
			`select count(pg_terminate_backend(pid)) from pg_stat_activity where ` + blocked, "57P01",
		},
		"Cancelled": {
			"application_name", "paylatch",
			`select count(pg_cancel_backend(pid)) from pg_stat_activity where ` + blocked, "57014",
		},
		"LockTimeout": {"lock_timeout", "1ms", "", "55P03"}, // The store's own; the URL has no say.
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1)
			model, p := f.create(f.payment("model")), f.payment("order-1")
			s := openStore(t, withSetting(t, f.url, c.setting, c.value))
			another := f.begin()
			if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(p.ID), uuid.UUID(model.ID)); err != nil {
				t.Fatal(err)
			}
			created := make(chan outcome, 1)
			go func() {
				stored, replayed, err := s.Create(t.Context(), p)
				created <- outcome{stored, replayed, err}
			}()
			if c.strike != "" {
				f.awaitBlocked(1)
				if struck := query[int](f, c.strike); struck != 1 {
					t.Fatalf("struck %d sessions, want 1", struck)
				}
			}
			o := receive(t, created)
			wantUnavailable(t, o.err, c.code)
			if o.stored != (payment.Payment{}) || o.replayed {
				t.Error("a payment was returned with the error")
			}
			if err := another.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if stored, replayed, err := s.Create(t.Context(), p); err != nil || replayed || stored.Seq == 0 {
				t.Errorf("the same create again: replayed %t, %v", replayed, err)
			}
		})
	}
}

func withSetting(t testing.TB, databaseURL, name, value string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// TestStore_Away_ReadOnly: a server that takes no writes is unavailable. The session that reported
// it is not used again, since after a failover another one leads to the primary.
func TestStore_Away_ReadOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	there := f.create(f.payment("there"))
	f.exec(`create function refuse_write() returns trigger language plpgsql as
		$$ begin raise exception 'cannot execute INSERT in a read-only transaction' using errcode = '25006'; return new;
		end $$`)
	for _, table := range []string{"payments", "parties"} {
		f.exec(`create trigger read_only before insert on ` + table + ` for each row execute function refuse_write()`)
	}
	const sessions = `select coalesce(array_agg(pid order by pid), '{}') from pg_stat_activity
		where datname = current_database() and application_name = 'paylatch'`
	var before []int32
	f.await("the idle connections", func() bool {
		before = query[[]int32](f, sessions)
		return len(before) >= 2
	})
	for key, change := range map[string]func(*payment.Content){
		"known-parties": func(*payment.Content) {},
		"new-parties":   func(c *payment.Content) { c.Originator.Name = "Somebody New" },
	} {
		_, _, err := f.Create(t.Context(), f.payment(key, change))
		wantUnavailable(t, err, "25006")
	}
	f.await("the end of the two sessions that could not write", func() bool {
		after := query[[]int32](f, sessions)
		gone := slices.DeleteFunc(slices.Clone(before), func(pid int32) bool { return slices.Contains(after, pid) })
		return len(gone) == 2
	})
	wantSame(t, f.find(there.ID), there)
	for _, table := range []string{"payments", "parties"} {
		f.exec(`drop trigger read_only on ` + table)
	}
	f.create(f.payment("order-1"))
}

// TestStore_Away_CallerGone: a caller that has gone is no fault of the database, whether it is
// noticed before the call or during it. A caller whose time is up gets payment.ErrUnavailable.
func TestStore_Away_CallerGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	model, p := f.create(f.payment("model")), f.payment("order-1")
	early := f.payment("order-0") // It may be stored: no caller waits for its outcome.
	gone, leave := context.WithCancel(t.Context())
	leave()
	for call, err := range everyCall(t, gone, f.Store, early) {
		wantCancelled(t, call, err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	_, _, err := f.Create(late, early)
	wantUnavailable(t, err)

	another := f.begin()
	if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(p.ID), uuid.UUID(model.ID)); err != nil {
		t.Fatal(err)
	}
	here, leave := context.WithCancel(t.Context())
	defer leave()
	created := make(chan error, 1)
	go func() {
		_, _, err := f.Create(here, p)
		created <- err
	}()
	f.awaitBlocked(1)
	leave()
	wantCancelled(t, "Create in the middle", receive(t, created))
	if err := another.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Create(t.Context(), p); err != nil {
		t.Error(err)
	}
}

func wantCancelled(t testing.TB, call string, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) || errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("%s: %v, want context.Canceled and not unavailable", call, err)
	}
}
