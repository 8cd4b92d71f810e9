package sender

import (
	"context"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// orphanAfter is how long a partition may have no owner until any replica takes it, beyond its
	// share. The replica whose share it is cannot serve it, because some brokers do not respond to
	// it, say. All others have observed several times by then.
	orphanAfter = 5 * observeEvery
	// adoptedFor is how long such a partition does not count in the share of the replica that took
	// it. Otherwise that replica would release it at once to the one that could not serve it.
	adoptedFor = 30 * time.Second
)

// rebalance brings what this replica owns to its fair share. It releases what is above the share,
// or acquires partitions without an owner.
func (s *Sender) rebalance(ctx context.Context, members store.Membership) {
	open := 0
	var free []store.Partition
	for _, p := range members.Partitions {
		_, mine := s.workers[p.Number]
		ours := p.State == store.StateActive && p.Delivery == s.Delivery
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
		if time.Now().After(s.coolingDown[p.Number]) {
			free = append(free, p)
		}
	}
	if len(s.free) == 0 {
		s.scarcity.scarce = false // Each partition has a session.
	}
	fair := fairShare(open, members.Replicas, members.Rank)
	over := s.workersInShare() - fair
	for _, w := range s.workers {
		if over <= 0 {
			break
		}
		if w.inShare() {
			w.release()
			over--
		}
	}
	s.order(free)
	for _, p := range free {
		switch {
		case !s.scarcity.allows(len(s.workers)):
		case s.workersInShare() < fair:
			s.start(ctx, p, time.Time{})
		case time.Since(s.free[p.Number]) >= orphanAfter:
			s.start(ctx, p, time.Now().Add(adoptedFor))
		}
	}
	if s.scarcity.scarce {
		s.rotate(free)
	}
}

// peerWatch triggers a rebalance as soon as a replica disappears. The replicas watch each other in
// a ring: each waits for the end of its peer's presence. If the watch fails, because its connection
// was lost, say, the check at each observeEvery still notices.
type peerWatch struct {
	store *store.Store
	peer  uint32
	// failed is closed when the wait for the peer has failed.
	failed chan struct{}
	// cancel ends the wait.
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// endingFor has pauses for the other sessions of a dead replica to end. Each has a server process
// of its own.
var endingFor = []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond}

// follow watches the peer and no other one; none if it is 0. It restarts a watch that has failed.
// The requests for a rebalance after a peer's end are bounded by ctx alone.
func (w *peerWatch) follow(ctx context.Context, peer uint32) {
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
				_ = sleep.For(watching, probeEvery)
			}
			close(failed)
			return
		}
		for _, d := range endingFor {
			_ = sleep.For(ctx, d)
			w.store.RequestRebalance(ctx)
		}
	})
}

// hasFailed reports whether the watch has failed. It is false if no peer is watched.
func (w *peerWatch) hasFailed() bool {
	select {
	case <-w.failed:
		return true
	default: // Also without a peer.
		return false
	}
}

// fairShare returns how many of n partitions the replica of the given rank (from 0) owns. The
// shares are as even as possible, and add up to n. All replicas compute the same.
func fairShare(n, replicas, rank int) int {
	if replicas == 0 || rank < 0 {
		// The replica holds the lock, so it should be in the list. It owns nothing if it is not.
		return 0
	}
	share := n / replicas
	if rank < n%replicas {
		share++
	}
	return share
}

// workersInShare counts the workers that are in this replica's share.
func (s *Sender) workersInShare() int {
	n := 0
	for _, w := range s.workers {
		if w.inShare() {
			n++
		}
	}
	return n
}

// start starts a worker for a partition. The partition is not in the replica's share before
// adoptedUntil.
func (s *Sender) start(ctx context.Context, p store.Partition, adoptedUntil time.Time) {
	ctx, cancel := context.WithCancel(ctx)
	w := s.newWorker(p, cancel)
	w.adoptedUntil = adoptedUntil
	s.workers[p.Number] = w
	s.Metrics.taken()
	go func() {
		defer cancel()
		err := w.run(ctx)
		s.ended <- ended{p.Number, err}
		(*s.interrupt.Load())()
	}()
}
