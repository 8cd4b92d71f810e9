package store_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// wantPayments checks that the claim holds exactly these, in this order.
func wantPayments(t testing.TB, claim *store.Claim, want ...payment.Payment) {
	t.Helper()
	if len(claim.Payments) != len(want) {
		t.Fatalf("claimed %d payments, want %d", len(claim.Payments), len(want))
	}
	for i, p := range claim.Payments {
		wantSame(t, p, want[i])
	}
}

// wantEmission checks that the first n payments are sent at offsets from base, that the others are
// created, and the partition's next offset.
func wantEmission(f *fixture, payments []payment.Payment, base int64, n int, next int64) {
	f.t.Helper()
	for i, p := range payments {
		got := f.find(p.ID)
		switch {
		case i >= n && (got.Status != payment.StatusCreated || got.Emission != nil):
			f.t.Errorf("payment %d is %s, want created", i, got.Status)
		case i < n && (got.Status != payment.StatusSent || got.Emission == nil || got.Emission.Offset != base+
			int64(i) ||
			got.Emission.At.Before(got.CreatedAt)):
			f.t.Errorf("payment %d is %s, %+v, want sent at %d", i, got.Status, got.Emission, base+int64(i))
		}
	}
	partitions, err := f.Partitions(f.t.Context())
	if err != nil || partitions[0].NextOffset != next {
		f.t.Errorf("next offset %d, %v, want %d", partitions[0].NextOffset, err, next)
	}
}

// TestClaim_Order: a claim takes the payments of its own partition in the order of seq, wherever
// they are in the table, and no more than the limit.
func TestClaim_Order(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	f.create(f.inPartition("of-another", 1, 2))
	var payments []payment.Payment
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		payments = append(payments, f.create(f.inPartition(key, 0, 2)))
	}
	rand.Shuffle(len(payments), func(i, j int) {
		// Then neither ids nor places in the table are in order.
		payments[i].Seq, payments[j].Seq = payments[j].Seq, payments[i].Seq
	})
	for _, p := range payments {
		f.tamper(`update payments set seq = $2 where id = $1`, [16]byte(p.ID), p.Seq)
	}
	slices.SortFunc(payments, func(p, q payment.Payment) int { return int(p.Seq - q.Seq) })

	session := f.own(0)
	for _, limit := range []int{0, 1, 5, 8, 1000} {
		claim := f.claim(session, limit)
		wantPayments(t, claim, payments[:min(limit, len(payments))]...)
		if p := claim.Partition; p.Number != 0 || p.Topic != topic || p.Delivery != store.DeliveryLocked ||
			p.State != store.StateActive || p.TransactionalID == "" {
			t.Errorf("limit %d: the claim's partition is %+v", limit, p)
		}
		claim.Rollback()
	}
}

// TestClaim_Exclusive: an owner has lost the partition without noticing, during a claim, and
// another replica owns it now. The row lock keeps the new owner out, without a wait, until the
// claim has ended: exclusive emission relies on this. The test forges the loss by releasing the
// advisory lock in the old owner's session.
func TestClaim_Exclusive(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	payments := f.createMany(3)
	zombie := f.own(payments[0].Partition)
	if _, err := zombie.Conn().Exec(t.Context(), `select pg_advisory_unlock_all()`); err != nil {
		t.Fatal(err)
	}
	owner := f.own(payments[0].Partition)

	claim := f.claim(zombie, 2)
	for range 2 { // Told each time it asks, and its session stays usable.
		if _, err := owner.Claim(t.Context(), 2); !errors.Is(err, store.ErrClaimed) {
			t.Fatalf("the second claim: %v, want ErrClaimed", err)
		}
	}
	if owner.Lost() {
		t.Error("a refused claim cost the session")
	}
	f.claim(f.own(1-payments[0].Partition), 2).Rollback() // The other partition is not held.
	claim.Rollback()

	second := f.claim(owner, 10)
	wantPayments(t, second, payments...)
	if _, err := zombie.Claim(t.Context(), 2); !errors.Is(err, store.ErrClaimed) {
		t.Errorf("the zombie's claim: %v, want ErrClaimed", err)
	}
}

// TestClaim_MarkSent: exactly the first n are marked, at consecutive offsets. No other session sees
// the mark or the new next offset before both are committed. A rollback leaves neither.
func TestClaim_MarkSent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		n      int
		commit bool
	}{"All": {5, true}, "Some": {3, true}, "None": {0, true}, "RollBack": {3, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1)
			payments := f.createMany(5)
			f.exec(`update topic_partitions set next_offset = 40`)
			session := f.own(0)
			claim := f.claim(session, 10)
			if claim.Partition.NextOffset != 40 {
				t.Errorf("next offset %d, want 40", claim.Partition.NextOffset)
			}
			if err := claim.MarkSent(t.Context(), 100, c.n, 100+int64(c.n)); err != nil {
				t.Fatal(err)
			}
			wantEmission(f, payments, 0, 0, 40)
			if !c.commit {
				claim.Rollback()
				wantEmission(f, payments, 0, 0, 40)
				wantPayments(t, f.claim(session, 10), payments...)
				return
			}
			if err := claim.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			claim.Rollback() // Deferred by every caller: does nothing now.
			wantEmission(f, payments, 100, c.n, 100+int64(c.n))
			wantPayments(t, f.claim(session, 10), payments[c.n:]...)
		})
	}
}

// TestClaim_LocksTables: from its begin on, a claim has the lock that its mark needs on both
// tables. Otherwise a CREATE INDEX could come in between, and a batch be published that cannot be
// marked.
func TestClaim_LocksTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.createMany(1)
	session := f.own(0)
	locked := func() string {
		return query[string](f, `select coalesce(string_agg(relation::regclass::text, ' ' order by relation), '')
			from pg_locks where pid = $1 and mode = 'RowExclusiveLock' and granted
			and relation in ('payments'::regclass, 'topic_partitions'::regclass)`, session.Conn().PgConn().PID())
	}
	for range 7 { // PostgreSQL keeps a plan from the sixth execution on.
		claim := f.claim(session, 0)
		if got, want := locked(), "payments topic_partitions"; got != want {
			t.Errorf("got locks on %q, want %q", got, want)
		}
		claim.Rollback()
		if got := locked(); got != "" {
			t.Errorf("got locks on %q after the claim, want none", got)
		}
	}
}

// TestClaim_MarkSent_Impossible: rows that the claim holds cannot have been marked by another
// session. If they were, by hand or because of a defect, the batch must fail with an error and
// leave everything as it was.
func TestClaim_MarkSent_Impossible(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(*fixture, *store.Claim, *store.Session) error{
		"MarkedMeanwhile": func(f *fixture, _ *store.Claim, s *store.Session) error {
			_, err := s.Conn().Exec(f.t.Context(),
				`update payments set status = 'sent', sent_at = now(), kafka_offset = 7 where seq = (select min(seq)
					from payments)`)
			return err
		},
		"MarkedTwice": func(f *fixture, c *store.Claim,
			_ *store.Session,
		) error {
			return c.MarkSent(f.t.Context(), 0, 3, 3)
		},
		"Vanished": func(f *fixture, _ *store.Claim, s *store.Session) error {
			_, err := s.Conn().Exec(f.t.Context(), `set local session_replication_role = replica;
				delete from payments where seq = (select min(seq) from payments)`)
			return err
		},
		"PartitionVanished": func(f *fixture, _ *store.Claim, s *store.Session) error {
			_, err := s.Conn().Exec(f.t.Context(), `delete from topic_partitions`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1)
			payments := f.createMany(3)
			session := f.own(0)
			claim := f.claim(session, 10)
			if err := forge(f, claim, session); err != nil {
				t.Fatal(err)
			}
			err := claim.MarkSent(t.Context(), 0, 3, 3)
			if !errors.Is(err, store.ErrCorrupt) || errors.Is(err, payment.ErrUnavailable) {
				t.Errorf("error %v, want the impossible state, not 'later'", err)
			}
			claim.Rollback()
			wantEmission(f, payments, 0, 0, 0)
		})
	}
}
