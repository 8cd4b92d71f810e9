package api

import (
	"sync"
	"time"
)

// sampleInterval is the time for which a sampler counts the events that pass.
const sampleInterval = 10 * time.Second

// sampler bounds how often one kind of event is logged. It is safe for concurrent use.
type sampler struct {
	mu sync.Mutex
	// end is when the present interval ends.
	end time.Time
	// passed and held count the events of the interval. What was held stays until an event passes.
	passed, held int
}

// pass reports whether the event may be logged: as one of the first eventsMax in an interval. It
// also returns how many events were held back since the last one that was logged.
func (s *sampler) pass(now time.Time, eventsMax int) (held int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now.Before(s.end) {
		s.end, s.passed = now.Add(sampleInterval), 0
	}
	if s.passed >= eventsMax {
		s.held++
		return 0, false
	}
	s.passed++
	held, s.held = s.held, 0
	return held, true
}
