package api

import (
	"sync"
	"time"
)

// sampleInterval is the time in which a sampler lets one event pass. So a flood of one kind writes
// six lines in a minute.
const sampleInterval = 10 * time.Second

// sampler bounds how often one kind of event is logged. It is safe for concurrent use.
type sampler struct {
	mu sync.Mutex
	// next is when an event may pass again.
	next time.Time
	held int
}

// pass reports whether the event may be logged, and how many events were held back since the last
// one that was.
func (s *sampler) pass(now time.Time) (held int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.next) {
		s.held++
		return 0, false
	}
	held, s.held = s.held, 0
	s.next = now.Add(sampleInterval)
	return held, true
}
