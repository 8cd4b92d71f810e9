package sender

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

// share brings what this replica owns to its fair share: it gives back what is over it, or takes partitions that nobody owns.
func (s *Sender) share(ctx context.Context, view store.View) {
	var open, free []int32
	for _, p := range view.Partitions {
		if p.State != store.Active || p.Delivery != s.Delivery {
			continue
		}
		open = append(open, p.Number)
		_, mine := s.owners[p.Number]
		if !mine && !view.Owned[p.Number] && time.Now().After(s.rested[p.Number]) {
			free = append(free, p.Number)
		}
	}
	fair := fairShare(len(open), view.Replicas, view.Rank)
	over := s.live() - fair
	for _, o := range s.owners {
		if over <= 0 {
			break
		}
		if !o.released {
			o.release()
			over--
		}
	}
	// In random order, so that two replicas seldom reach for the same partition; when they do, one gets ErrOwned and looks again.
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, p := range free {
		if s.live() >= fair {
			break
		}
		s.start(ctx, p)
	}
}

// watch has everybody look as soon as a replica is gone: each replica waits for the end of the next one's presence. Without it (its connection is lost, say) all still look every lookEvery.
type watch struct {
	store     *store.Store
	neighbour uint32
	failed    chan struct{}      // Closed when the wait for the neighbour came to nothing.
	cancel    context.CancelFunc // Ends it.
	running   sync.WaitGroup
}

// endingFor is how long the other sessions of a replica that died may take to end: each has a process of PostgreSQL's own.
var endingFor = []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond}

// follow watches the neighbour and nobody else; nobody at all when it is 0. A watch that failed begins anew. What is told when a neighbour has ended is bound by ctx alone.
func (w *watch) follow(ctx context.Context, neighbour uint32) {
	if neighbour == w.neighbour && !w.hasFailed() {
		return
	}
	if w.cancel != nil {
		w.cancel()
	}
	w.neighbour, w.cancel, w.failed = neighbour, nil, nil
	if neighbour == 0 {
		return
	}
	watching, cancel := context.WithCancel(ctx)
	failed := make(chan struct{})
	w.cancel, w.failed = cancel, failed
	w.running.Go(func() {
		defer cancel()
		if w.store.AwaitEnd(watching, neighbour) != nil {
			close(failed)
			return
		}
		for _, d := range endingFor {
			pause(ctx, d)
			w.store.AskToLook(ctx)
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

// fairShare is how many of n partitions the replica of the given rank (from 0) owns among so many replicas: as even as can be, all replicas
// come to the same answer, and the shares add up to n.
func fairShare(n, replicas, rank int) int {
	if replicas == 0 || rank < 0 { // The lock is ours, so this replica is seen; be safe when it is not.
		return 0
	}
	share := n / replicas
	if rank < n%replicas {
		share++
	}
	return share
}

// live counts the owners that were not asked to give their partition back.
func (s *Sender) live() int {
	n := 0
	for _, o := range s.owners {
		if !o.released {
			n++
		}
	}
	return n
}

// start sets an owner to work on a partition.
func (s *Sender) start(ctx context.Context, partition int32) {
	ctx, cancel := context.WithCancel(ctx)
	o := &owner{sender: s, partition: partition, news: make(chan struct{}, 1), cancel: cancel}
	s.owners[partition] = o
	s.Metrics.taken()
	go func() {
		defer cancel()
		err := o.run(ctx)
		s.ended <- ended{partition, err}
		(*s.interrupt.Load())()
	}()
}
