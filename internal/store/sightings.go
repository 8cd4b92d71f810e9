package store

import (
	"sync"
	"time"
)

// sightings measures by this process's own clock how long it has seen the oldest payment of each
// partition wait. The database's clock may be set back; by that alone a payment that waits would
// seem to be new until the clock has caught up. Safe for concurrent use.
type sightings struct {
	mu sync.Mutex
	// By partition.
	of map[int32]sighting
}

// sighting says since when a payment has been seen to be the oldest.
type sighting struct {
	seq   int64
	since time.Time
}

// waiting returns for how long seq has been seen to be the partition's oldest payment; 0 is none.
func (s *sightings) waiting(partition int32, seq int64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq == 0 {
		delete(s.of, partition)
		return 0
	}
	if s.of[partition].seq != seq {
		s.of[partition] = sighting{seq, time.Now()}
	}
	return time.Since(s.of[partition].since)
}
