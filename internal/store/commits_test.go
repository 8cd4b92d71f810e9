package store_test

import (
	"context"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// stall makes the relay lose what the server sends on the connections in use.
func (r *relay) stall(stalled bool) { r.stalled.Store(stalled) }

// TestCommits_LostResponse: the response to a commit is lost, and the connection stays open. The
// commit is checked over another connection. The server process is idle, so the connection is
// closed, and the pool has room again. The retry finds the payment.
func TestCommits_LostResponse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.create(f.payment("parties"))
	r := newRelay(t, f.url)
	s, err := store.Open(t.Context(), r.url, 2) // One connection in the pool.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	opened := r.opened.Load()
	r.stall(true)
	p := f.payment("order-1")
	ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
	defer cancel()
	_, _, err = s.Create(ctx, p)
	wantUnavailable(t, err)
	r.stall(false) // Only what is sent from now on arrives.
	var stored payment.Payment
	f.await("the retry", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
		defer cancel()
		replayed := false
		stored, replayed, err = s.Create(ctx, p)
		return err == nil && replayed
	})
	wantSame(t, f.find(p.ID), stored)
	if r.opened.Load() == opened {
		t.Error("no other connection was opened: the response was not lost")
	}
	if n := r.cancels.Load(); n != 0 {
		t.Errorf("%d CancelRequests were sent", n)
	}
}
