package sender

import (
	"context"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

const (
	// orphanAfter is how long a partition may have no owner until whoever can takes it, beyond its
	// share: the replica whose share it would be cannot serve it, as one that some brokers do not
	// answer. All others have looked several times by then.
	orphanAfter = 5 * lookEvery
	// adoptedFor is how long such a partition does not count as a share of who took it, so that it
	// is not given back at once to who could not serve it.
	adoptedFor = 30 * time.Second
)

// share brings what this replica owns to its fair share: it gives back what is over it, or takes
// partitions that nobody owns.
func (s *Sender) share(ctx context.Context, members store.Membership) {
	open := 0
	var free []store.Partition
	for _, p := range members.Partitions {
		_, mine := s.owners[p.Number]
		ours := p.State == store.Active && p.Delivery == s.Delivery
		if ours {
			open++
		}
		if !ours || mine || members.Owned[p.Number] {
			delete(s.free, p.Number)
			continue
		}
		if _, seen := s.free[p.Number]; !seen {
			s.free[p.Number] = time.Now()
		}
		if time.Now().After(s.rested[p.Number]) {
			free = append(free, p)
		}
	}
	if len(s.free) == 0 {
		s.scarcity.scarce = false // Each partition has a session.
	}
	fair := fairShare(open, members.Replicas, members.Rank)
	over := s.live() - fair
	for _, o := range s.owners {
		if over <= 0 {
			break
		}
		if o.counts() {
			o.release()
			over--
		}
	}
	s.order(free)
	for _, p := range free {
		switch {
		case !s.scarcity.allows(len(s.owners)):
		case s.live() < fair:
			s.start(ctx, p, time.Time{})
		case time.Since(s.free[p.Number]) >= orphanAfter:
			s.start(ctx, p, time.Now().Add(adoptedFor))
		}
	}
	if s.scarcity.scarce {
		s.takeTurns(free)
	}
}

// watch has everybody look as soon as a replica is gone: each replica waits for the end of the next
// one's presence. Without it (its connection is lost, say) all still look every lookEvery.
type watch struct {
	store *store.Store
	peer  uint32
	// Closed when the wait for the peer came to nothing.
	failed chan struct{}
	// Ends it.
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// endingFor is how long the other sessions of a replica that died may take to end: each has a
// process of PostgreSQL's own.
var endingFor = []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond}

// follow watches the peer and nobody else; nobody at all when it is 0. A watch that failed
// begins anew. What is told when a peer has ended is bound by ctx alone.
func (w *watch) follow(ctx context.Context, peer uint32) {
	if peer == w.peer && !w.hasFailed() {
		return
	}
	if w.cancel != nil {
		w.cancel()
	}
	w.peer, w.cancel, w.failed = peer, nil, nil
	if peer == 0 {
		return
	}
	watching, cancel := context.WithCancel(ctx)
	failed := make(chan struct{})
	w.cancel, w.failed = cancel, failed
	w.running.Go(func() {
		defer cancel()
		if err := w.store.AwaitEnd(watching, peer); err != nil {
			if store.SessionRefused(err) {
				pause(watching, probeEvery)
			}
			close(failed)
			return
		}
		for _, d := range endingFor {
			pause(ctx, d)
			w.store.RequestRebalance(ctx)
		}
	})
}

func (w *watch) hasFailed() bool {
	select {
	case <-w.failed:
		return true
	default: // Also when nobody is watched.
		return false
	}
}

// fairShare is how many of n partitions the replica of the given rank (from 0) owns among so many
// replicas: as even as can be, all replicas come to the same answer, and the shares add up to n.
func fairShare(n, replicas, rank int) int {
	if replicas == 0 || rank < 0 {
		// The lock is ours, so this replica is seen; be safe when it is not.
		return 0
	}
	share := n / replicas
	if rank < n%replicas {
		share++
	}
	return share
}

// live counts the owners that make up this replica's share.
func (s *Sender) live() int {
	n := 0
	for _, o := range s.owners {
		if o.counts() {
			n++
		}
	}
	return n
}

// start sets an owner to work on a partition, which does not count as a share until the given time.
func (s *Sender) start(ctx context.Context, p store.Partition, apartUntil time.Time) {
	ctx, cancel := context.WithCancel(ctx)
	o := &owner{sender: s, topic: p.Topic, partition: p.Number, apartUntil: apartUntil, since: time.Now(),
		news: make(chan struct{}, 1), cancel: cancel}
	s.owners[p.Number] = o
	s.Metrics.taken()
	go func() {
		defer cancel()
		err := o.run(ctx)
		s.ended <- ended{p.Number, err}
		(*s.interrupt.Load())()
	}()
}
