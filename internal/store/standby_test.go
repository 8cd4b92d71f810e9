package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// poolMax is how many connections the store of a standby fixture may have.
const poolMax = 6

// requestTimeout is how long a request waits in these tests. A commit that nothing delays needs
// less, and it is below the store's lock_timeout.
const requestTimeout = 2 * time.Second

// standbyFixture is a store on a server of its own, whose commits may be made to wait for a
// synchronous standby that is away.
type standbyFixture struct {
	*fixture
	server *parts.Server
}

func newStandbyFixture(t testing.TB) *standbyFixture {
	t.Helper()
	server := parts.OwnPostgres(t)
	if _, err := store.MigrateUp(t.Context(), server.URL, migrations.FS); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), server.URL, poolMax)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	f := &standbyFixture{&fixture{t: t, url: server.URL, Store: s, db: openDB(t, server.URL)}, server}
	f.tenant = f.newTenant("acme")
	if err := f.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryFenced, make([]int64, 3)); err != nil {
		t.Fatal(err)
	}
	return f
}

// standbyAway makes every commit from now on wait, but those of the test's own sessions. The
// setting has reached all sessions when it has reached a new one, and the checkpointer has made it
// hold.
func (f *standbyFixture) standbyAway() {
	f.t.Helper()
	f.configure("nobody")
	f.await("a commit that waits for the standby", func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := f.Ready(ctx)
		return err != nil
	})
}

func (f *standbyFixture) standbyBack() { f.t.Helper(); f.configure("") }

func (f *standbyFixture) configure(names string) {
	f.t.Helper()
	// The alter itself does not commit anything that would wait.
	f.exec(`alter system set synchronous_standby_names = '` + names + `'`)
	f.exec(`select pg_reload_conf()`)
	f.await("the setting", func() bool { return query[string](f.fixture, `show synchronous_standby_names`) == names })
}

// within makes a call with the time that a request has.
func within[V any](t testing.TB, call func(ctx context.Context) (V, error)) (V, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
	defer cancel()
	return call(ctx)
}

func (f *standbyFixture) tryCreate(p payment.Payment) error {
	f.t.Helper()
	_, err := within(f.t, func(ctx context.Context) (payment.Payment, error) {
		stored, _, err := f.Create(ctx, p)
		return stored, err
	})
	return err
}

func (f *standbyFixture) tryFind(id payment.ID) error {
	f.t.Helper()
	_, err := within(f.t, func(ctx context.Context) (payment.Payment, error) {
		return f.Find(ctx, f.tenant.TenantRef, id)
	})
	return err
}

// wantUnknown makes each call that would report the payment: none may.
func (f *standbyFixture) wantUnknown(p payment.Payment) {
	f.t.Helper()
	for range 2 {
		wantUnavailable(f.t, f.tryCreate(p))
	}
	wantUnavailable(f.t, f.tryFind(p.ID))
	wantUnavailable(f.t, f.tryFind(payment.ID(uuid.New()))) // That there is none is a report, too.
	_, err := within(f.t, f.Ready)
	wantUnavailable(f.t, err)
}

// waitingForStandby counts the sessions whose commit waits for the standby.
const waitingForStandby = `select count(*) from pg_stat_activity where wait_event = 'SyncRep'`

// visible reports whether the row can be seen, past the store.
func (f *standbyFixture) visible(p payment.Payment) bool {
	f.t.Helper()
	return query[bool](f.fixture, `select exists (select from payments where id = $1)`, uuid.UUID(p.ID))
}

// TestStandby_Away: as long as no standby has confirmed a payment, nothing about it is reported,
// however often it is requested. No more sessions wait than the pool has connections. When the
// standby is back, all of it is reported.
func TestStandby_Away(t *testing.T) {
	t.Parallel()
	f := newStandbyFixture(t)
	stored := f.create(f.payment("before"))
	f.standbyAway()
	p := f.payment("order-1")
	f.wantUnknown(p)
	f.wantUnknown(stored) // Known before: even so.
	f.wantUnknown(p)
	if f.visible(p) {
		t.Error("the row is visible: the wait for the standby was cancelled")
	}
	if n := query[int](f.fixture, waitingForStandby); n == 0 || n > poolMax {
		t.Errorf("%d sessions wait for the standby, want 1 to %d", n, poolMax)
	}
	f.standbyBack()
	f.await("the payment", func() bool { return f.tryCreate(p) == nil })
	f.find(p.ID)
	f.find(stored.ID)
	if n := query[int](f.fixture, `select count(*) from payments`); n != 2 {
		t.Errorf("%d payments are stored, want 2", n)
	}
}

// TestStandby_WaitCancelled: PostgreSQL is told to stop waiting, and reports success with a
// warning. The outcome of that commit is unknown, the payment is visible, and still nothing about
// it is reported. That the role wants no warnings changes nothing.
func TestStandby_WaitCancelled(t *testing.T) {
	t.Parallel()
	f := newStandbyFixture(t)
	f.exec(`alter role current_user set client_min_messages = error`)
	f.exec(`select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'paylatch'`)
	f.await("a new connection", func() bool { return f.tryCreate(f.payment("parties")) == nil })
	f.standbyAway()
	cancelWaits := `select count(pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'
		and query like $1`

	p := f.payment("order-1")
	created := make(chan error, 1)
	go func() {
		_, _, err := f.Create(t.Context(), p) // With all the time in the world.
		created <- err
	}()
	f.await("the create's commit to wait", func() bool {
		return query[int](f.fixture, cancelWaits,
			"insert into payments%") == 1
	})
	wantUnavailable(t, receive(t, created), "not confirmed")
	if !f.visible(p) {
		t.Fatal("the row is not visible: the wait was not cancelled")
	}
	f.wantUnknown(p)

	found := make(chan error, 1)
	go func() {
		_, err := f.Find(t.Context(), f.tenant.TenantRef, p.ID)
		found <- err
	}()
	f.await("the read to end", func() bool { // One that began before it may wait first.
		query[int](f.fixture, cancelWaits, "%pg_logical_emit_message%")
		return len(found) == 1
	})
	wantUnavailable(t, receive(t, found), "not confirmed")
	f.standbyBack()
	f.await("the payment", func() bool { return f.tryFind(p.ID) == nil })
}

// TestStandby_Restart: a restart of the primary makes visible what no standby has.
func TestStandby_Restart(t *testing.T) {
	t.Parallel()
	f := newStandbyFixture(t)
	f.create(f.payment("parties"))
	f.standbyAway()
	p := f.payment("order-1")
	wantUnavailable(t, f.tryCreate(p))
	if f.visible(p) {
		t.Fatal("the row is visible before the restart")
	}
	f.server.Restart(t, true)
	f.await("the server", func() bool { return f.db.Ping(t.Context()) == nil })
	if !f.visible(p) {
		t.Fatal("the row is not visible after the restart: there is nothing to test")
	}
	f.wantUnknown(p)
	f.standbyBack()
	f.await("the payment", func() bool { return f.tryFind(p.ID) == nil })
}

// TestStandby_Close: a store is closed while its commits wait. They are left to the server.
func TestStandby_Close(t *testing.T) {
	t.Parallel()
	f := newStandbyFixture(t)
	f.create(f.payment("parties"))
	f.standbyAway()
	p := f.payment("order-1")
	wantUnavailable(t, f.tryCreate(p))
	f.Close()
	if n := query[int](f.fixture, waitingForStandby); n == 0 {
		t.Error("no commit waits any more: it was cancelled")
	}
	if f.visible(p) {
		t.Error("the row is visible: the wait for the standby was cancelled")
	}
	f.standbyBack()
}
