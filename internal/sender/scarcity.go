package sender

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

const (
	// turnTime is how long an owner keeps a partition while others have none: long enough that most
	// of the time goes into sending, since a takeover takes some tens of milliseconds.
	turnTime = 3 * time.Second
	// idleTurn is after how long a partition gets a turn although nothing waits in it: its last
	// owner may have left a transaction whose marker a broker has lost.
	idleTurn = time.Minute
	// probeEvery paces the attempts to have one session more than the database last gave. Each that
	// is refused is a line in PostgreSQL's log.
	probeEvery = 5 * time.Second
	// refusedPause is how long PostgreSQL may take to free the place of a session that was closed.
	refusedPause = 250 * time.Millisecond
	// noteEvery paces the queries for the limits and for the time, and logEvery the log of what
	// lasts.
	noteEvery = time.Minute
	logEvery  = 10 * time.Minute
	// sessionsOfReplica is how many sessions a replica has besides those of its owners: its
	// presence, and the watch over another one.
	sessionsOfReplica = 2
)

// scarcity is what a replica knows of the sessions that the database has for it. Once one was
// refused there are at most as many owners as had one. They give their partitions back in rotation,
// so that each partition is served in bounded time. The Sender's goroutine uses it.
type scarcity struct {
	scarce bool
	// Owners at most.
	most int
	// When one more is tried.
	probe  time.Time
	unsent map[int32]bool
	noted  time.Time
	logged time.Time
}

// refused notes that the database has sessions for so many owners.
func (s *scarcity) refused(owners int) {
	if !s.scarce {
		s.noted, s.logged = time.Time{}, time.Time{} // It begins: that is logged.
	}
	s.scarce, s.most, s.probe = true, owners, time.Now().Add(probeEvery)
}

// allows reports whether there may be one more owner than so many. When one that was tried is not
// refused, one more may follow.
func (s *scarcity) allows(owners int) bool {
	if s.scarce && owners >= s.most && time.Now().After(s.probe) {
		s.most = owners + 1
		s.probe = time.Now().Add(lookEvery)
	}
	return !s.scarce || owners < s.most
}

// mind updates what is known: limits and clocks now and then, and while sessions are scarce also
// where payments wait.
func (s *Sender) mind(ctx context.Context, presence *store.Presence, members store.Membership) error {
	if time.Since(s.scarcity.noted) >= noteEvery {
		s.scarcity.noted = time.Now()
		if err := s.noteConnections(ctx, presence, members); err != nil {
			return err
		}
		if err := s.noteClock(ctx, presence); err != nil {
			return err
		}
	}
	if !s.scarcity.scarce {
		return nil
	}
	if err := s.Store.Reserve(ctx); store.SessionRefused(err) {
		// Owners cannot work without, nor can the API.
		s.scarcity.refused(max(len(s.owners)-1, 1))
	}
	unsent, err := presence.WithUnsent(ctx)
	s.scarcity.unsent = unsent
	return err
}

// noteConnections measures how many connections are needed, and how many there may be. It logs when
// these are too few.
func (s *Sender) noteConnections(ctx context.Context, presence *store.Presence, members store.Membership) error {
	limits, err := presence.ConnectionLimits(ctx)
	if err != nil {
		return err
	}
	allowed, by := limits.Least()
	sessions := len(members.Partitions) + sessionsOfReplica*members.Replicas
	pooled := s.Store.ConnectionsMax() * members.Replicas
	s.Metrics.connections(sessions+pooled, allowed)
	if (s.scarcity.scarce || allowed < sessions+pooled) && time.Since(s.scarcity.logged) >= logEvery {
		s.scarcity.logged = time.Now()
		s.Logger.Warn("too few database connections", "partitions", len(members.Partitions), "senders", members.Replicas,
			"sessions_needed", sessions, "pooled_connections", pooled, "allowed", allowed, "limit_of", by, "refused",
			s.scarcity.scarce)
	}
	return nil
}

// order sorts the partitions that have no owner. While sessions are scarce those come first in
// which payments wait, and of these the one that has been without for longest. Otherwise the order
// is random, so that two replicas seldom reach for the same one; when they do, one gets ErrOwned
// and looks again.
func (s *Sender) order(free []store.Partition) {
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	if !s.scarcity.scarce {
		return
	}
	slices.SortFunc(free, func(p, q store.Partition) int {
		switch unsent := s.scarcity.unsent; {
		case unsent[p.Number] == unsent[q.Number]:
			return s.free[p.Number].Compare(s.free[q.Number])
		case unsent[p.Number]:
			return -1
		default:
			return 1
		}
	})
}

// takeTurns has owners give their partitions back, as many as other partitions are due for a turn,
// or as there are sessions too few: first those that have nothing to send, and then those that have
// had theirs for longest.
func (s *Sender) takeTurns(free []store.Partition) {
	due := 0
	for _, p := range free {
		_, started := s.owners[p.Number]
		if !started && (s.scarcity.unsent[p.Number] || time.Since(s.free[p.Number]) >= idleTurn) {
			due++
		}
	}
	due = max(due, len(s.owners)-s.scarcity.most)
	var had []*owner
	for _, o := range s.owners {
		switch {
		case o.released:
			due--
		case time.Since(o.since) >= turnTime && o.failures.Load() == 0:
			// One that fails may owe the table a batch.
			had = append(had, o)
		}
	}
	slices.SortFunc(had, func(a, b *owner) int {
		switch idle := a.idle.Load(); {
		case idle == b.idle.Load():
			return a.since.Compare(b.since)
		case idle:
			return -1
		default:
			return 1
		}
	})
	for _, o := range had[:max(min(due, len(had)), 0)] {
		o.release()
	}
}
