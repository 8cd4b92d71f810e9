package store_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/metrics"
	"github.com/paylatch/paylatch/internal/payment"
)

// A database's clock that was set back is emulated by rows that were created in its future.

// TestClock_RevokeKey: a key is revoked at once, even if the clock was set back to before its
// creation.
func TestClock_RevokeKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	key, id := f.addKey()
	f.exec(`update api_keys set created_at = now() + interval '1 hour' where id = $1`, id)
	if err := f.RevokeAPIKey(t.Context(), "acme", id); err != nil {
		t.Fatal(err)
	}
	wantUnauthorized(t, openStore(t, f.url), key)
	if !query[bool](f, `select revoked_at = created_at and revoked_at > now() from api_keys where id = $1`, id) {
		t.Error("the key's times do not say that the clock was set back")
	}
}

// TestClock_MarkSent: no payment is sent before it was created, as far as its times say.
func TestClock_MarkSent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.createMany(2)
	f.tamper(`update payments set created_at = now() + interval '1 hour' where seq = (select min(seq) from payments)`)
	claim := f.claim(f.own(0), 10)
	if err := claim.MarkSent(t.Context(), 0, 2, 2); err != nil {
		t.Fatal(err)
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := query[int](f, `select count(*) from payments where sent_at >= created_at and status = 'sent'`); n != 2 {
		t.Errorf("%d of 2 payments are sent no earlier than they were created", n)
	}
	if n := query[int](f, `select count(*) from payments where sent_at > now()`); n != 1 {
		t.Errorf("%d payments have a time in the future, want the one that was created then", n)
	}
}

// TestClock_Restore: a payment that is put back from the log has its record's time, but never one
// before it was created. The record's time is that of another machine's clock, in milliseconds.
func TestClock_Restore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	var payments []payment.Payment
	for _, p := range f.createMany(2) {
		payments = append(payments, f.find(p.ID))
	}
	found := inLog(payments, 0)
	found[0].CreatedAt = found[0].Emission.At.Add(time.Second)
	found[1].CreatedAt = found[1].Emission.At.Add(-time.Second)
	f.tamper(`truncate payments`)
	if got := f.recover(found, 2, false); got.Restored != 2 {
		t.Fatalf("%d payments were put back, want 2", got.Restored)
	}
	for i, want := range []time.Time{found[0].CreatedAt, found[1].Emission.At} {
		if got := f.find(payments[i].ID).Emission.At; !got.Equal(want) {
			t.Errorf("payment %d was sent at %s, want %s", i, got, want)
		}
	}
}

// TestClock_OldestUnsent: the reported age of a waiting payment grows with the time for which it
// has been seen waiting, whatever the database's clock is. It ends when the payment is sent.
func TestClock_OldestUnsent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewBacklog(f.Store))
	age := func() float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "paylatch_payments_oldest_unsent_seconds" {
				return family.GetMetric()[0].GetGauge().GetValue()
			}
		}
		t.Fatal("no such metric")
		return 0
	}
	f.createMany(1)
	f.tamper(`update payments set created_at = now() + interval '1 hour'`)
	first := age()
	f.await("the age grows", func() bool { return age() > first })
	f.exec(`update payments set status = 'sent', sent_at = created_at, kafka_offset = 0`)
	if got := age(); got != 0 {
		t.Errorf("nothing waits, and its age is %v s", got)
	}
}
