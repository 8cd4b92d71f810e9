package store_test

import (
	"errors"
	"testing"

	"github.com/paylatch/paylatch/internal/store"
)

// wantState checks the state of partition 0, in the list and in a claim.
func wantState(f *fixture, session *store.Session, state store.State, reason string) {
	f.t.Helper()
	partitions, err := f.Partitions(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	claim := f.claim(session, 0)
	defer claim.Rollback()
	for _, p := range []store.Partition{partitions[0], claim.Partition} {
		if p.State != state || p.Reason != reason {
			f.t.Errorf("partition 0 is %s, %q, want %s, %q", p.State, p.Reason, state, reason)
		}
	}
}

// TestStore_Halt: an operator halts and resumes. Each call reports if it changed nothing, the first
// reason stays, and no other partition is changed.
func TestStore_Halt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	session := f.own(0)
	step := func(name string, err, want error, state store.State, reason string) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		wantState(f, session, state, reason)
	}
	before := query[string](f, `select changed_at::text from topic_partitions where partition = 0`)
	step("resume an active one", f.Resume(t.Context(), 0), store.ErrNoPartition, store.StateActive, "")
	step("halt", f.Halt(t.Context(), 0, "an unexpected record in the tail"), nil, store.StateHalted,
		"an unexpected record in the tail")
	step("halt a halted one", f.Halt(t.Context(), 0, "another reason"), store.ErrNoPartition, store.StateHalted,
		"an unexpected record in the tail")
	if after := query[string](f, `select changed_at::text from topic_partitions where partition = 0`); after == before {
		t.Error("changed_at did not move")
	}
	step("resume", f.Resume(t.Context(), 0), nil, store.StateActive, "")
	step("halt none", f.Halt(t.Context(), 99, "why"), store.ErrNoPartition, store.StateActive, "")
	step("resume none", f.Resume(t.Context(), 99), store.ErrNoPartition, store.StateActive, "")
	if n := query[int](f, `select count(*) from topic_partitions where partition = 1 and state = 'active'
		and reason is null`); n != 1 {
		t.Error("partition 1 was touched")
	}
}

// TestStore_Halt_WaitsForBatch: an operator halts a partition while a batch is being published.
// When Halt returns, that batch must be over. The test holds the claim open until Halt waits for
// it, and finds the mark of the batch and the halt both on record.
func TestStore_Halt_WaitsForBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	payments := f.createMany(2)
	session := f.own(0)
	claim := f.claim(session, 10)
	halted := make(chan error, 1)
	go func() { halted <- f.Halt(t.Context(), 0, "why") }()
	f.awaitBlocked(1)
	if err := claim.MarkSent(t.Context(), 0, 2, 2); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-halted:
		t.Fatalf("Halt returned before the batch was over: %v", err)
	default:
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, halted); err != nil {
		t.Fatal(err)
	}
	wantEmission(f, payments, 0, 2, 2)
	wantState(f, session, store.StateHalted, "why")
}

// TestClaim_Halt: a batch that finds a contradiction halts its partition with its commit, and a
// rollback takes that back.
func TestClaim_Halt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	payments := f.createMany(1)
	session := f.own(0)
	claim := f.claim(session, 10)
	if err := claim.Halt(t.Context(), "why"); err != nil {
		t.Fatal(err)
	}
	claim.Rollback()
	wantState(f, session, store.StateActive, "")

	claim = f.claim(session, 10)
	if err := claim.Halt(t.Context(), "why"); err != nil {
		t.Fatal(err)
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantState(f, session, store.StateHalted, "why")
	wantEmission(f, payments, 0, 0, 0)
}
