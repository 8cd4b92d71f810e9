package sender

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

const (
	// rotationTime is how long an owner keeps a partition while others have none. Most of that time
	// goes into sending, since a takeover takes some tens of milliseconds.
	rotationTime = 3 * time.Second
	// idleRotation is after how long a partition gets an owner although nothing waits in it. Its
	// last owner may have left a transaction whose marker a broker has lost.
	idleRotation = time.Minute
	// probeEvery paces the attempts to have one session more than the database last granted. Each
	// refusal is a line in PostgreSQL's log.
	probeEvery = 5 * time.Second
	// refusedPause is how long PostgreSQL may take to free the slot of a session that was closed.
	refusedPause = 250 * time.Millisecond
	// measureEvery paces the queries for limits and clocks.
	measureEvery = time.Minute
	// logEvery paces the log of a condition that lasts.
	logEvery = 10 * time.Minute
	// sessionsOfReplica is how many sessions a replica has in addition to those of its workers: its
	// presence, and the watch over its peer.
	sessionsOfReplica = 2
)

// scarcity is what a replica knows of the sessions that the database has for it. Once a session was
// refused, there are at most as many workers as had a session. They release their partitions in
// rotation, so that each partition is served in bounded time. Only the Sender's goroutine uses it.
type scarcity struct {
	scarce bool
	// workersMax is how many workers there may be while sessions are scarce.
	workersMax int
	// probeAt is when one worker more is tried.
	probeAt time.Time
	// unsent has the partitions with unsent payments.
	unsent map[int32]bool
	// measuredAt is when limits and clocks were last measured.
	measuredAt time.Time
	// loggedAt is when too few connections were last logged.
	loggedAt time.Time
}

// refused notes that the database has sessions for only so many workers.
func (s *scarcity) refused(workers int) {
	if !s.scarce {
		s.measuredAt, s.loggedAt = time.Time{}, time.Time{} // It begins, which is logged at once.
	}
	s.scarce, s.workersMax, s.probeAt = true, workers, time.Now().Add(probeEvery)
}

// allows reports whether there may be one worker more. If a session that was tried is not refused,
// another one is tried.
func (s *scarcity) allows(workers int) bool {
	if s.scarce && workers >= s.workersMax && time.Now().After(s.probeAt) {
		s.workersMax = workers + 1
		s.probeAt = time.Now().Add(observeEvery)
	}
	return !s.scarce || workers < s.workersMax
}

// updateScarcity updates what is known of limits and clocks now and then, and while sessions are
// scarce also in which partitions payments wait.
func (s *Sender) updateScarcity(ctx context.Context, presence *store.Presence, members store.Membership) error {
	if time.Since(s.scarcity.measuredAt) >= measureEvery {
		s.scarcity.measuredAt = time.Now()
		if err := s.measureConnections(ctx, presence, members); err != nil {
			return err
		}
		if err := s.measureClock(ctx, presence); err != nil {
			return err
		}
	}
	if !s.scarcity.scarce {
		return nil
	}
	if err := s.Store.Reserve(ctx); store.SessionRefused(err) {
		// Neither workers nor the API can work without a pooled connection.
		s.scarcity.refused(max(len(s.workers)-1, 1))
	}
	unsent, err := presence.WithUnsent(ctx)
	s.scarcity.unsent = unsent
	return err
}

// measureConnections measures how many connections are needed and how many are allowed. It logs
// when these are too few.
func (s *Sender) measureConnections(ctx context.Context, presence *store.Presence, members store.Membership) error {
	limits, err := presence.ConnectionLimits(ctx)
	if err != nil {
		return err
	}
	allowed, by := limits.Least()
	sessions := len(members.Partitions) + sessionsOfReplica*members.Replicas
	pooled := s.Store.ConnectionsMax() * members.Replicas
	s.Metrics.connections(sessions+pooled, allowed)
	if (s.scarcity.scarce || allowed < sessions+pooled) && time.Since(s.scarcity.loggedAt) >= logEvery {
		s.scarcity.loggedAt = time.Now()
		s.Logger.Warn("too few database connections", "partitions", len(members.Partitions), "senders",
			members.Replicas,
			"sessions_needed", sessions, "pooled_connections", pooled, "allowed", allowed, "limit_of", by, "refused",
			s.scarcity.scarce)
	}
	return nil
}

// order sorts the partitions without an owner. While sessions are scarce, those with waiting
// payments come first, and of these the one without an owner for longest. Otherwise the order is
// random, so that two replicas seldom try the same one. If they do, one gets ErrOwned and tries
// again.
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

// rotate makes workers release their partitions: as many as other partitions are due, or as there
// are too few sessions. First come those that have nothing to send, and then those that have had
// their partition for longest.
func (s *Sender) rotate(free []store.Partition) {
	due := 0
	for _, p := range free {
		_, started := s.workers[p.Number]
		if !started && (s.scarcity.unsent[p.Number] || time.Since(s.free[p.Number]) >= idleRotation) {
			due++
		}
	}
	due = max(due, len(s.workers)-s.scarcity.workersMax)
	var had []*partitionWorker
	for _, w := range s.workers {
		switch {
		case w.released:
			due--
		case time.Since(w.since) >= rotationTime && w.failures.Load() == 0:
			// One that fails may have to keep its partition: see delivery.
			had = append(had, w)
		}
	}
	slices.SortFunc(had, func(a, b *partitionWorker) int {
		switch idle := a.idle.Load(); {
		case idle == b.idle.Load():
			return a.since.Compare(b.since)
		case idle:
			return -1
		default:
			return 1
		}
	})
	for _, w := range had[:max(min(due, len(had)), 0)] {
		w.release()
	}
}
