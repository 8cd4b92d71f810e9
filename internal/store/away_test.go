package store_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// everyCall makes each call of the store that asks the database, by name.
func everyCall(t testing.TB, ctx context.Context, s *store.Store, p payment.Payment) map[string]error {
	key := newKey(t)
	errs := map[string]error{
		"RevokeAPIKey":          s.RevokeAPIKey(ctx, "acme", 1),
		"InitPartitions":        s.InitPartitions(ctx, topic, uuid.New(), store.Fenced, make([]int64, 3)),
		"RenewTransactionalIDs": s.RenewTransactionalIDs(ctx),
		"Halt":                  s.Halt(ctx, 0, "why"),
		"Resume":                s.Resume(ctx, 0),
	}
	_, errs["Ready"] = s.Ready(ctx)
	_, _, errs["Create"] = s.Create(ctx, p)
	_, errs["Find"] = s.Find(ctx, p.Tenant, p.ID)
	_, errs["FindDerived"] = s.FindDerived(ctx, p.Tenant, p.ID)
	_, errs["Authenticate"] = s.Authenticate(ctx, key.Hash())
	_, errs["CreateTenant"] = s.CreateTenant(ctx, "new")
	_, errs["AddAPIKey"] = s.AddAPIKey(ctx, "acme", key)
	_, errs["Tenants"] = s.Tenants(ctx)
	_, errs["Partitions"] = s.Partitions(ctx)
	_, errs["Backlog"] = s.Backlog(ctx)
	return errs
}

// somewhere is a tenant's payment for a database that cannot be asked for one.
func somewhere(t testing.TB) payment.Payment {
	t.Helper()
	return newPayment(t, payment.Tenant{TenantRef: payment.TenantRef{ID: 1, Name: "acme"}}, "order-1")
}

// TestStore_Away_Refused: nobody listens where the database should be. Whatever is asked, the answer is "not now"; above all an API
// key is then not "wrong", and a payment not "not found".
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
	_, errs["Join"] = s.Join(t.Context(), store.Locked)
	_, errs["MigrationStatus"] = store.MigrationStatus(t.Context(), nowhere, migrations.FS)
	for call, err := range errs {
		wantUnavailable(t, err)
		if errors.Is(err, payment.ErrUnauthorized) || errors.Is(err, payment.ErrNotFound) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// TestStore_Away_NoSchema: the database is there and empty. The operator is told which command is missing, and once it was given the same
// store works.
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
	tenant, err := s.CreateTenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.InitPartitions(t.Context(), topic, uuid.New(), store.Locked, []int64{0}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(t.Context(), newPayment(t, tenant, "order-1")); err != nil {
		t.Error(err)
	}
}

// TestStore_Away_InTheMiddle: a create waits for another transaction when its own statement ends badly: its backend is terminated, or a time-out
// strikes. The caller is told "not now"; nothing was stored; and the same create then succeeds with the same store.
func TestStore_Away_InTheMiddle(t *testing.T) {
	t.Parallel()
	const blocked = `datname = current_database() and wait_event_type = 'Lock'`
	for name, c := range map[string]struct {
		setting, value string
		strike         string
		code           string
	}{
		"Terminated":       {"application_name", "paylatch", `select count(pg_terminate_backend(pid)) from pg_stat_activity where ` + blocked, "57P01"},
		"Cancelled":        {"application_name", "paylatch", `select count(pg_cancel_backend(pid)) from pg_stat_activity where ` + blocked, "57014"},
		"StatementTimeout": {"statement_timeout", "1s", "", "57014"},
		"LockTimeout":      {"lock_timeout", "1s", "", "55P03"},
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
				t.Error("a payment was returned beside the error")
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

// TestStore_Away_ReadOnly: after a fail-over the store reaches a standby for a while. What it reads is answered, what it writes is "not now".
func TestStore_Away_ReadOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.db = openDB(t, withSetting(t, f.url, "default_transaction_read_only", "off"))
	there := f.create(f.payment("there"))
	name := query[string](f, `select quote_ident(current_database())`)
	failOver := func(setting string) {
		f.exec(`alter database ` + name + ` ` + setting)
		f.exec(`select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = current_database() and application_name = 'paylatch'`)
	}
	failOver(`set default_transaction_read_only = on`)
	for key, change := range map[string]func(*payment.Content){
		"known-parties": func(*payment.Content) {},
		"new-parties":   func(c *payment.Content) { c.Originator.Name = "Somebody New" },
	} {
		f.await("the refusal to write", func() bool { // The first calls find that their connections have ended.
			_, _, err := f.Create(t.Context(), f.payment(key, change))
			wantUnavailable(t, err)
			return strings.Contains(err.Error(), "25006")
		})
	}
	wantSame(t, f.find(there.ID), there)

	failOver(`reset default_transaction_read_only`)
	f.await("a create on the new primary", func() bool {
		_, _, err := f.Create(t.Context(), f.payment("order-1"))
		if err != nil {
			wantUnavailable(t, err)
		}
		return err == nil
	})
}

// TestStore_Away_CallerGone: that the caller went away is no fault of the database's, whether it is noticed before the call or in the middle;
// that its time was up is "not now".
func TestStore_Away_CallerGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	model, p := f.create(f.payment("model")), f.payment("order-1")
	gone, leave := context.WithCancel(t.Context())
	leave()
	for call, err := range everyCall(t, gone, f.Store, p) {
		wantCancelled(t, call, err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	_, _, err := f.Create(late, p)
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
