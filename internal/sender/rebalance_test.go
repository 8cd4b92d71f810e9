package sender

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/store"
)

// All replicas compute the same shares without communication. The shares add up to all partitions,
// and are as even as possible.
func TestFairShare(t *testing.T) {
	t.Parallel()
	for n := range 25 {
		for replicas := 1; replicas <= 10; replicas++ {
			sum, least, most := 0, n, 0
			for rank := range replicas {
				share := fairShare(n, replicas, rank)
				sum, least, most = sum+share, min(least, share), max(most, share)
			}
			if sum != n || most-least > 1 {
				t.Errorf("%d partitions among %d replicas: shares from %d to %d, %d in all", n, replicas, least, most,
					sum)
			}
		}
	}
	for _, unseen := range []struct{ replicas, rank int }{{0, -1}, {0, 0}, {3, -1}} {
		if got := fairShare(12, unseen.replicas, unseen.rank); got != 0 {
			t.Errorf("a replica of rank %d among %d takes %d", unseen.rank, unseen.replicas, got)
		}
	}
}

// load creates payments for all partitions, from several callers at once, until it is stopped and
// has created as many as it must. Each caller waits a little in between, so that the load lasts as
// long as the test.
type load struct {
	r       *rig
	least   int64
	created atomic.Int64
	stop    chan struct{}
	once    sync.Once
	done    sync.WaitGroup
}

// finish waits until the callers have ended, with as many payments as there must be.
func (l *load) finish() {
	l.once.Do(func() { close(l.stop) })
	l.done.Wait()
}

const callers = 4

func (r *rig) load(least int64) *load {
	l := &load{r: r, least: least, stop: make(chan struct{})}
	for caller := range int32(callers) {
		l.done.Go(func() {
			for i := caller; !l.enough(); i += callers {
				if _, err := r.tryCreate(i % r.partitions); err != nil {
					r.t.Errorf("create: %v", err)
					return
				}
				l.created.Add(1)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	r.t.Cleanup(l.finish) // Before the store closes, also when the test has failed.
	return l
}

func (l *load) enough() bool {
	select {
	case <-l.stop:
		return l.created.Load() >= l.least
	default:
		return false
	}
}

// more waits until some more payments were created, so that the next step of the test happens under
// load.
func (l *load) more(n int64) {
	l.r.t.Helper()
	from := l.created.Load()
	until(l.r.t, "the load goes on", func() bool { return l.created.Load() >= from+n || l.r.t.Failed() })
}

// end finishes the load, waits until all is sent, and returns how many payments there were.
func (l *load) end() int64 {
	l.r.t.Helper()
	l.finish()
	l.r.allSent()
	return l.created.Load()
}

// wantShares waits until the replicas own these numbers of partitions, in any order, and each
// partition is owned by one session.
func (r *rig) wantShares(share int, replicas ...replica) {
	r.t.Helper()
	until(r.t, "the shares are even", func() bool {
		for _, s := range replicas {
			if int(s.value("paylatch_sender_partitions_owned")) != share {
				return false
			}
		}
		return r.count(`select count(*) `+sessionsOfPartitions) == int(r.partitions) &&
			r.count(`select count(distinct objid) `+sessionsOfPartitions) == int(r.partitions)
	})
}

// Replicas start and stop cleanly while payments are created. The shares follow without any
// configuration, and each payment is in the topic exactly once.
func TestSender_Rebalance(t *testing.T) {
	t.Parallel()
	r := newRig(t, 12, nil)
	load := r.load(2000)
	a, b, c := r.replica(), r.replica(), r.replica()
	r.run(a)
	r.wantShares(12, a)
	load.more(100)
	stopB := r.run(b)
	r.run(c)
	r.wantShares(4, a, b, c)
	for _, s := range []replica{a, b, c} {
		until(t, "all are at work", func() bool { return s.value("paylatch_payments_sent_total") > 0 })
	}

	stopB()
	r.wantShares(6, a, c)
	load.more(100)

	d := r.replica()
	r.run(d)
	r.wantShares(4, a, c, d)
	until(t, "the new one is at work", func() bool { return d.value("paylatch_payments_sent_total") > 0 })

	n := load.end()
	r.verdict()
	sent := 0.0
	for _, s := range []replica{a, b, c, d} {
		sent += s.value("paylatch_payments_sent_total")
	}
	if n < 2000 || int64(sent) != n {
		t.Errorf("%d payments were created, and the replicas report that they sent %v", n, sent)
	}
	if got := r.count(`select sum(next_offset) from topic_partitions`); int64(got) != n {
		t.Errorf("the partitions' next offsets add up to %d, want %d", got, n)
	}
}

// A replica dies: its connections to the database are cut during its batches, and it never comes
// back. The others take its partitions over. What it was sending, at most one batch of each
// partition, may be repeated once. Nothing is lost.
func TestSender_Rebalance_Killed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 12, nil)
	load := r.load(500)
	w := newWire(t, r.url)
	victim := r.replica(func(c *Config) { c.Store = r.open(w.url) })
	a, b := r.replica(), r.replica()
	r.run(a)
	r.run(b)
	kill := r.run(victim)
	r.wantShares(4, a, b, victim)
	until(t, "the victim is at work", func() bool { return victim.value("paylatch_payments_sent_total") > 0 })

	w.cut()
	kill()
	r.wantShares(6, a, b)
	load.more(100)
	load.end()
	r.verdictAtLeastOnce(2)
}

// The database ends all sessions of a replica at once, again and again. The replica comes back by
// itself.
func TestSender_Rebalance_SessionsEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 6, nil)
	load := r.load(300)
	a, b := r.replica(), r.replica()
	r.run(a)
	r.run(b)
	for range 3 {
		r.wantShares(3, a, b)
		load.more(30)
		if n := r.endSessions(); n < 8 {
			t.Fatalf("%d sessions were ended, want the 6 of the partitions and the 2 of the replicas", n)
		}
	}
	r.wantShares(3, a, b)
	load.end()
	r.verdictAtLeastOnce(4)
}

// endSessions ends all sessions of all senders, waits until they are gone, and returns how many
// there were.
func (r *rig) endSessions() int {
	r.t.Helper()
	rows, err := r.sql.Query(bounded(r.t), `select pid from pg_stat_activity where application_name = 'paylatch sender'
		and datname = current_database()`)
	if err != nil {
		r.t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		r.t.Fatal(err)
	}
	r.exec(`select pg_terminate_backend(pid) from unnest($1::int[]) as pid`, pids)
	until(r.t, "the sessions are gone", func() bool {
		return r.count(`select count(*) from pg_stat_activity where pid = any($1::int[])`, pids) == 0
	})
	return len(pids)
}

// The watch over a peer is lost. The next check restarts it, so that the peer's end is still
// noticed at once. The caller that ends the watch can wait for it.
func TestPeerWatch_Restarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	var present []*store.Presence
	for range 2 {
		p, err := r.store.Register(bounded(t), store.DeliveryLocked)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Deregister)
		present = append(present, p)
	}
	members, err := present[0].Observe(bounded(t))
	if err != nil || members.Peer == 0 {
		t.Fatal(members, err)
	}
	const waiting = `from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
		and wait_event = 'advisory'`
	ctx, stop := context.WithCancel(bounded(t))
	w := peerWatch{store: r.store}
	for range 3 {
		until(t, "the peer is watched", func() bool {
			w.follow(ctx, members.Peer)
			return r.count(`select count(*) `+waiting) == 1
		})
		until(t, "the watch is lost", func() bool {
			return r.count(`select count(pg_terminate_backend(pid)) `+
				waiting) == 1
		})
		until(t, "that is known", w.hasFailed)
	}
	w.follow(ctx, members.Peer)
	until(t, "the peer is watched", func() bool { return r.count(`select count(*) `+waiting) == 1 })
	stop()
	w.running.Wait()
	until(t, "nobody is", func() bool { return r.count(`select count(*) `+waiting) == 0 })
}
