package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/store"
)

// own makes the test the owner of the partition, which must be free.
func (f *fixture) own(partition int32) *store.Session {
	f.t.Helper()
	session, err := f.Own(f.t.Context(), partition)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(session.Close)
	patient(f.t, session.Conn())
	return session
}

// ownSoon owns a partition that has just been released. PostgreSQL may still be ending the session
// of its former owner.
func (f *fixture) ownSoon(s *store.Store, partition int32) (session *store.Session) {
	f.t.Helper()
	f.await("the partition to be free", func() bool {
		var err error
		session, err = s.Own(f.t.Context(), partition)
		if err != nil && !errors.Is(err, store.ErrOwned) {
			f.t.Fatal(err)
		}
		return err == nil
	})
	f.t.Cleanup(session.Close)
	patient(f.t, session.Conn())
	return session
}

// patient lets a test keep a session idle for longer than an owner may. On a slow machine
// PostgreSQL would end it during the test. TestSession_Settings checks the real settings.
func patient(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), `set idle_session_timeout = 0;
		set idle_in_transaction_session_timeout = 0`); err != nil {
		t.Fatal(err)
	}
}

// claim claims the partition, which must be possible.
func (f *fixture) claim(session *store.Session, limit int) *store.Claim {
	f.t.Helper()
	claim, err := session.Claim(f.t.Context(), limit)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(claim.Rollback)
	return claim
}

// terminate ends the backend that owns partition 0, as PostgreSQL does with one that is idle for
// too long, and waits for its end.
func (f *fixture) terminate() {
	f.t.Helper()
	ended := query[bool](f, `select pg_terminate_backend(pid, 10000) from pg_locks where locktype = 'advisory'
		and classid = $1 and objid = 0
		and database = (select oid from pg_database where datname = current_database())`, store.LockClassPartition)
	if !ended {
		f.t.Fatal("the owner was not terminated")
	}
}

// TestSession_Own: a partition has one owner. The others get ErrOwned at once, and can own the
// partition when it is released.
func TestSession_Own(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	second := openStore(t, f.url)
	session := f.own(0)
	for name, s := range map[string]*store.Store{"SameReplica": f.Store, "AnotherReplica": second} {
		if _, err := s.Own(t.Context(), 0); !errors.Is(err, store.ErrOwned) {
			t.Errorf("%s: %v, want ErrOwned", name, err)
		}
	}
	f.own(1)
	// Advisory locks belong to a database, so another installation on the server is not in the way.
	elsewhere := newFixture(t, 2)
	elsewhere.own(0)

	session.Close()
	again := f.ownSoon(second, 0)
	if !session.Lost() || again.Lost() {
		t.Errorf("lost: the closed one %t, the new one %t", session.Lost(), again.Lost())
	}
	f.await("the end of all sender sessions but the two that own: those refused must be closed", func() bool {
		return query[int](f, `select count(*) from pg_stat_activity where datname = current_database()
			and application_name = 'paylatch sender'`) == 2
	})
}

// TestSession_Settings: PostgreSQL has the settings by which it ends the session of an owner that
// is stopped, dead or cut off. They leave room for what an owner does: to use its session in time,
// and to record a response of Kafka's that arrived in time.
func TestSession_Settings(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	session, err := f.Own(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	seconds := func(setting string) time.Duration {
		t.Helper()
		var s float64
		sql := `select extract(epoch from current_setting($1)::interval)::float8`
		if err := session.Conn().QueryRow(t.Context(), sql, setting).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return time.Duration(s * float64(time.Second))
	}
	for setting, least := range map[string]time.Duration{
		"idle_session_timeout":                3 * store.TouchEvery,
		"idle_in_transaction_session_timeout": store.PublishTimeout + time.Second,
		"client_connection_check_interval":    time.Millisecond,
		"statement_timeout":                   time.Second,
		"lock_timeout":                        time.Millisecond,
	} {
		if got := seconds(setting); got < least || got > time.Minute {
			t.Errorf("%s is %v, want at least %v and at most a minute", setting, got, least)
		}
	}
}

// TestSession_HasUnsent: the check before a batch finds created payments of its own partition.
func TestSession_HasUnsent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	session := f.own(1)
	want := func(want bool, when string) {
		t.Helper()
		if got, err := session.HasUnsent(t.Context()); err != nil || got != want {
			t.Errorf("%s: %t, %v, want %t", when, got, err, want)
		}
	}
	want(false, "empty")
	f.create(f.inPartition("of-another", 0, 2))
	want(false, "another's payment")
	f.create(f.inPartition("of-its-own", 1, 2))
	want(true, "its own payment")
	f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 0`)
	want(false, "sent")
}

// TestSession_HasUnsent_BurnsNothing: an idle system checks many times a second. The check must
// take no transaction id, or it alone would cause vacuums against wraparound. The same transaction
// takes one when it claims, which shows that the measurement works.
func TestSession_HasUnsent_BurnsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.create(f.payment("order-1"))
	session := f.own(0)
	tx, err := session.Conn().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	burned := func() (id *string) {
		t.Helper()
		if err := tx.QueryRow(t.Context(), `select pg_current_xact_id_if_assigned()::text`).Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	if unsent, err := session.HasUnsent(t.Context()); err != nil || !unsent {
		t.Fatalf("unsent: %t, %v", unsent, err)
	}
	if id := burned(); id != nil {
		t.Errorf("the check took transaction id %s", *id)
	}
	claim, err := session.Claim(t.Context(), 1) // Within the same transaction, as a savepoint.
	if err != nil || len(claim.Payments) != 1 {
		t.Fatalf("claim: %v", err)
	}
	if burned() == nil {
		t.Error("not even a claim took a transaction id: the measure is wrong")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestSession_Terminated: PostgreSQL ends an owner's session during its batch, after the mark.
// Ownership and claim end with it. The mark is undone, the session reports that it is lost, and the
// next owner claims the same payments.
func TestSession_Terminated(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	payments := f.createMany(3)
	session := f.own(0)
	claim := f.claim(session, 10)
	if err := claim.MarkSent(t.Context(), 0, 3, 3); err != nil {
		t.Fatal(err)
	}
	f.terminate()

	next, err := openStore(t, f.url).Own(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	patient(t, next.Conn())
	wantUnavailable(t, claim.Commit(t.Context()))
	if !session.Lost() {
		t.Error("the session does not know that it is lost")
	}
	_, err = session.HasUnsent(t.Context())
	wantUnavailable(t, err)
	_, err = session.Claim(t.Context(), 10)
	wantUnavailable(t, err)

	again := f.claim(next, 10)
	wantPayments(t, again, payments...)
	if again.Partition.NextOffset != 0 {
		t.Errorf("next offset %d, want 0: the mark was not committed", again.Partition.NextOffset)
	}
}

// TestSession_TerminatedIdle: PostgreSQL ends the session of an owner that was stopped between two
// batches. The owner's next statement returns an error, before it can do anything, and the
// partition is free.
func TestSession_TerminatedIdle(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	session := f.own(0)
	f.terminate()
	f.own(0)
	_, err := session.HasUnsent(t.Context())
	wantUnavailable(t, err)
	if !session.Lost() {
		t.Error("the session does not know that it is lost")
	}
}
