package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

// register registers one more replica, with a store of its own.
func (f *fixture) register() *store.Presence {
	f.t.Helper()
	p, err := openStore(f.t, f.url).Register(f.t.Context(), store.DeliveryLocked)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(p.Deregister)
	patient(f.t, p.Conn())
	return p
}

func (f *fixture) observe(p *store.Presence) store.Membership {
	f.t.Helper()
	members, err := p.Observe(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return members
}

// wantRanks checks that all that are present see all of them, and each at a rank of its own. The
// ranks are the same for all, and do not change.
func wantRanks(f *fixture, present ...*store.Presence) {
	f.t.Helper()
	var first []int
	for range 2 {
		var ranks []int
		for _, p := range present {
			members := f.observe(p)
			if members.Replicas != len(present) {
				f.t.Errorf("one sees %d replicas, want %d", members.Replicas, len(present))
			}
			ranks = append(ranks, members.Rank)
		}
		if first == nil {
			first = ranks
		}
		if !slices.Equal(ranks, first) {
			f.t.Errorf("ranks were %d and are %d", first, ranks)
		}
	}
	for rank, got := range slices.Sorted(slices.Values(first)) {
		if got != rank {
			f.t.Fatalf("ranks are %d, want 0 to %d once each", first, len(present)-1)
		}
	}
}

// TestPresence_Observe: three replicas come, one leaves, and the session of one is killed. The
// others see it when they observe next, without a table and without a clock. An installation in
// another database of the same server does not count.
func TestPresence_Observe(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	newFixture(t, 2).register()
	a := f.register()
	wantRanks(f, a)
	b, c := f.register(), f.register()
	wantRanks(f, a, b, c)

	b.Deregister()
	f.await("the replica that left to be gone", func() bool { return f.observe(a).Replicas == 2 })
	wantRanks(f, a, c)
	if ended := query[bool](f, `select pg_terminate_backend($1, 10000)`, int32(c.Conn().PgConn().PID())); !ended {
		t.Fatal("the session was not ended")
	}
	wantRanks(f, a)
	_, err := c.Observe(t.Context())
	wantUnavailable(t, err)
	_, err = c.AwaitNotification(t.Context())
	wantUnavailable(t, err)
	d := f.register()
	wantRanks(f, a, d)
}

// TestPresence_Observe_Partitions: Observe returns which partitions have an owner, and the state of
// all.
func TestPresence_Observe_Partitions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4)
	a := f.register()
	wantOwned := func(want ...int32) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(f.observe(a).Owned)); !slices.Equal(got, want) {
			t.Errorf("owned are %d, want %d", got, want)
		}
	}
	wantOwned()
	second := f.own(2)
	f.own(0)
	wantOwned(0, 2)
	second.Close()
	f.await("the owner of partition 2 to be gone", func() bool { return len(f.observe(a).Owned) == 1 })
	wantOwned(0)
	f.terminate()
	wantOwned()

	if err := f.Halt(t.Context(), 3, "why"); err != nil {
		t.Fatal(err)
	}
	listed, err := f.Partitions(t.Context())
	seen := f.observe(a).Partitions
	if err != nil || !slices.Equal(seen, listed) || seen[3].State != store.StateHalted {
		t.Errorf("seen %+v, want %+v, %v", seen, listed, err)
	}
}

// notification waits for the next notification.
func (f *fixture) notification(p *store.Presence) store.Notification {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), waitMost)
	defer cancel()
	got, err := p.AwaitNotification(ctx)
	if err != nil || ctx.Err() != nil {
		f.t.Fatalf("no notification: %v, %v", err, ctx.Err())
	}
	return got
}

// TestPresence_Notification: all replicas are notified of a created payment, with its partition,
// and of a requested rebalance.
func TestPresence_Notification(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	replicas := []*store.Presence{f.register(), f.register()}
	for _, partition := range []int32{0, 7, 11} {
		f.create(f.inPartition(fmt.Sprintf("order-%d", partition), partition, 12))
		for _, p := range replicas {
			if got := f.notification(p); got.Rebalance || !slices.Equal(got.Created, []int32{partition}) {
				t.Errorf("notification %+v, want that partition %d has a payment", got, partition)
			}
		}
	}
	f.RequestRebalance(t.Context())
	for _, p := range replicas {
		if got := f.notification(p); !got.Rebalance || len(got.Created) != 0 {
			t.Errorf("notification %+v, want a rebalance", got)
		}
	}
	// A notification that came before a replica observes, or while it does, is not lost.
	f.create(f.inPartition("before-it-observes", 3, 12))
	if got := f.notification(replicas[1]); !slices.Equal(got.Created, []int32{3}) {
		t.Fatalf("notification %+v, want that partition 3 has a payment", got)
	}
	f.observe(replicas[0])
	if got := f.notification(replicas[0]); !slices.Equal(got.Created, []int32{3}) {
		t.Errorf("notification %+v, want that partition 3 has a payment", got)
	}
}

// TestPresence_Notification_Ended: a replica waits for notifications until its next check. The end
// of the wait is no error, whether it came before or during the wait. The session goes on,
// observes, and gets later notifications.
func TestPresence_Notification_Ended(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	p := f.register()
	pid := p.Conn().PgConn().PID()
	none := func(ctx context.Context) {
		t.Helper()
		got, err := p.AwaitNotification(ctx)
		if err != nil || got.Rebalance || len(got.Created) > 0 {
			t.Errorf("notification %+v, %v, want neither a notification nor an error", got, err)
		}
		wantRanks(f, p)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	none(ended)
	late, end := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer end()
	none(late)
	soon, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	none(soon)

	waiting, end := context.WithCancel(t.Context())
	heard := make(chan error, 1)
	go func() {
		_, err := p.AwaitNotification(waiting)
		heard <- err
	}()
	end()
	if err := receive(t, heard); err != nil {
		t.Error(err)
	}
	wantRanks(f, p)
	if p.Conn().IsClosed() || p.Conn().PgConn().PID() != pid {
		t.Fatal("the session was lost")
	}
	f.create(f.inPartition("order-1", 5, 12))
	if got := f.notification(p); !slices.Equal(got.Created, []int32{5}) {
		t.Errorf("notification %+v, want that partition 5 has a payment", got)
	}
}

// TestPresence_Notification_Unknown: a notification that this program does not know, of a newer
// version or sent by hand, reports nothing.
func TestPresence_Notification_Unknown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	p := f.register()
	for payload, want := range map[string][]int32{"": nil, "x": nil, "1,x,2": {1, 2}, "99999999999": nil} {
		f.exec(`select pg_notify($1, $2)`, store.NotifyChannel, payload)
		if got := f.notification(p); got.Rebalance || !slices.Equal(got.Created, want) {
			t.Errorf("payload %q: got %+v, want partitions %d", payload, got, want)
		}
	}
}
