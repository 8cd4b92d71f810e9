package store_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/embedded"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
)

// TestStore_Away_Restart: PostgreSQL is restarted, once cleanly and once by a crash, while payments
// are created without a pause. Creates fail during that, all with payment.ErrUnavailable.
// Afterwards the same store works. All payments that were reported, before, during and after, are
// there.
func TestStore_Away_Restart(t *testing.T) {
	t.Parallel()
	start, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	// As in production: a crash must lose nothing.
	server, err := embedded.StartPostgres(start, embedded.PostgresConfig{Fsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := store.MigrateUp(t.Context(), server.URL(), migrations.FS); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, url: server.URL(), Store: openStore(t, server.URL())}
	f.tenant = f.newTenant("acme")
	if err := f.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryFenced, make([]int64, 12)); err != nil {
		t.Fatal(err)
	}
	var answered []payment.Payment
	for _, immediate := range []bool{false, true} {
		began := f.postmasterStart()
		answered = append(answered, f.createDuring(len(answered),
			func() error { return server.Restart(start, immediate) })...)
		if !f.postmasterStart().After(began) {
			t.Error("PostgreSQL was not restarted")
		}
	}
	for _, p := range answered {
		wantSame(t, f.find(p.ID), p)
	}
}

// createDuring creates payments, numbered from first, while the restart runs, and then until one
// succeeds again. It returns those that were reported as created.
func (f *fixture) createDuring(first int, restart func() error) []payment.Payment {
	f.t.Helper()
	var answered []payment.Payment
	restarted := make(chan error, 1)
	failed := 0
	create := func() bool {
		stored, _, err := f.Create(f.t.Context(), f.payment("order-"+strconv.Itoa(first+len(answered))))
		if err != nil {
			failed++
			wantUnavailable(f.t, err)
			return false
		}
		answered = append(answered, stored)
		return true
	}
	if !create() {
		f.t.Fatal("the database was away before its restart")
	}
	go func() { restarted <- restart() }()
	for over := false; !over; {
		select {
		case err := <-restarted:
			if err != nil {
				f.t.Fatal(err)
			}
			over = true
		default:
			create()
		}
	}
	f.await("a create after the restart", create)
	f.t.Logf("%d creates were answered, %d were not", len(answered), failed)
	if failed == 0 {
		f.t.Error("no create failed during the restart: nothing was tested")
	}
	return answered
}

// postmasterStart returns the start of the server, over a connection of its own.
func (f *fixture) postmasterStart() time.Time {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = conn.Close(f.t.Context()) }()
	var start time.Time
	if err := conn.QueryRow(f.t.Context(), `select pg_postmaster_start_time()`).Scan(&start); err != nil {
		f.t.Fatal(err)
	}
	return start
}
