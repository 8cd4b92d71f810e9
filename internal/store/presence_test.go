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

// join makes one more replica present, by a store of its own.
func (f *fixture) join() *store.Presence {
	f.t.Helper()
	p, err := openStore(f.t, f.url).Join(f.t.Context(), store.Locked)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(p.Leave)
	patient(f.t, p.Conn())
	return p
}

func (f *fixture) look(p *store.Presence) store.View {
	f.t.Helper()
	view, err := p.Look(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return view
}

// wantRanks wants each of those present to see all of them, and each at a place of its own: the
// same for all that look, and again.
func wantRanks(f *fixture, present ...*store.Presence) {
	f.t.Helper()
	var first []int
	for range 2 {
		var ranks []int
		for _, p := range present {
			view := f.look(p)
			if view.Replicas != len(present) {
				f.t.Errorf("one sees %d replicas, want %d", view.Replicas, len(present))
			}
			ranks = append(ranks, view.Rank)
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

// TestPresence_Look: three replicas come, one leaves, and one's session is killed. Those who are
// left see it at their next look, without a table and without anyone's clock; an installation in
// another database of the same server does not count.
func TestPresence_Look(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	newFixture(t, 2).join()
	a := f.join()
	wantRanks(f, a)
	b, c := f.join(), f.join()
	wantRanks(f, a, b, c)

	b.Leave()
	f.await("the replica that left to be gone", func() bool { return f.look(a).Replicas == 2 })
	wantRanks(f, a, c)
	if ended := query[bool](f, `select pg_terminate_backend($1, 10000)`, int32(c.Conn().PgConn().PID())); !ended {
		t.Fatal("the session was not ended")
	}
	wantRanks(f, a)
	_, err := c.Look(t.Context())
	wantUnavailable(t, err)
	_, err = c.News(t.Context())
	wantUnavailable(t, err)
	d := f.join()
	wantRanks(f, a, d)
}

// TestPresence_Look_Partitions shows that a look tells which partitions have an owner, and how all
// stand.
func TestPresence_Look_Partitions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4)
	a := f.join()
	wantOwned := func(want ...int32) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(f.look(a).Owned)); !slices.Equal(got, want) {
			t.Errorf("owned are %d, want %d", got, want)
		}
	}
	wantOwned()
	second := f.own(2)
	f.own(0)
	wantOwned(0, 2)
	second.Close()
	f.await("the owner of partition 2 to be gone", func() bool { return len(f.look(a).Owned) == 1 })
	wantOwned(0)
	f.terminate(0)
	wantOwned()

	if err := f.Halt(t.Context(), 3, "why"); err != nil {
		t.Fatal(err)
	}
	listed, err := f.Partitions(t.Context())
	if seen := f.look(a).Partitions; err != nil || !slices.Equal(seen, listed) || seen[3].State != store.Halted {
		t.Errorf("seen %+v, want %+v, %v", seen, listed, err)
	}
}

// news waits for the next notification.
func (f *fixture) news(p *store.Presence) store.News {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), waitMost)
	defer cancel()
	news, err := p.News(ctx)
	if err != nil || ctx.Err() != nil {
		f.t.Fatalf("no news: %v, %v", err, ctx.Err())
	}
	return news
}

// TestPresence_News shows that every replica hears of a created payment, with its partition, and of
// a call to look.
func TestPresence_News(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	replicas := []*store.Presence{f.join(), f.join()}
	for _, partition := range []int32{0, 7, 11} {
		f.create(f.inPartition(fmt.Sprintf("order-%d", partition), partition, 12))
		for _, p := range replicas {
			if news := f.news(p); news.Look || !slices.Equal(news.Created, []int32{partition}) {
				t.Errorf("news %+v, want that partition %d has a payment", news, partition)
			}
		}
	}
	f.RequestRebalance(t.Context())
	for _, p := range replicas {
		if news := f.news(p); !news.Look || len(news.Created) != 0 {
			t.Errorf("news %+v, want a call to look", news)
		}
	}
	// News that came before a replica looked, or while it did, is not lost.
	f.create(f.inPartition("before-the-look", 3, 12))
	if news := f.news(replicas[1]); !slices.Equal(news.Created, []int32{3}) {
		t.Fatalf("news %+v, want that partition 3 has a payment", news)
	}
	f.look(replicas[0])
	if news := f.news(replicas[0]); !slices.Equal(news.Created, []int32{3}) {
		t.Errorf("news %+v, want that partition 3 has a payment", news)
	}
}

// TestPresence_News_Ended: a replica waits for news until its next tick. That the tick comes is no
// error, whether it came before the wait or in it, and costs nothing: the same session looks and
// hears what comes later.
func TestPresence_News_Ended(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	p := f.join()
	pid := p.Conn().PgConn().PID()
	none := func(ctx context.Context) {
		t.Helper()
		news, err := p.News(ctx)
		if err != nil || news.Look || len(news.Created) > 0 {
			t.Errorf("news %+v, %v, want neither news nor an error", news, err)
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
		_, err := p.News(waiting)
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
	if news := f.news(p); !slices.Equal(news.Created, []int32{5}) {
		t.Errorf("news %+v, want that partition 5 has a payment", news)
	}
}

// TestPresence_News_Strange: notifications that this program does not know, of a newer one or of a
// hand, are news of nothing.
func TestPresence_News_Strange(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	p := f.join()
	for payload, want := range map[string][]int32{"": nil, "x": nil, "1,x,2": {1, 2}, "99999999999": nil} {
		f.exec(`select pg_notify($1, $2)`, store.NotifyChannel, payload)
		if news := f.news(p); news.Look || !slices.Equal(news.Created, want) {
			t.Errorf("%q is news of %+v, want %d", payload, news, want)
		}
	}
}
