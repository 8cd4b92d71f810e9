//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// stopwatch measures a stream of acknowledgements from the first of them to the last: how an
// emitter starts is no part of how fast it is.
type stopwatch struct {
	mu          sync.Mutex
	count, last int
	first       int // How many were acknowledged at once when it began.
	began, end  time.Time
	cpu         float64
	whole       chan struct{} // Closed when all are acknowledged.
}

func newStopwatch(count int) *stopwatch { return &stopwatch{count: count, whole: make(chan struct{})} }

// at notes that so many are acknowledged in all.
func (s *stopwatch) at(acknowledged int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(acknowledged)
}

// one notes one more.
func (s *stopwatch) one() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(s.last + 1)
}

func (s *stopwatch) note(acknowledged int) {
	if acknowledged <= s.last {
		return
	}
	s.end = time.Now()
	if s.last == 0 {
		s.first, s.began, s.cpu = acknowledged, s.end, ownCPU()
	}
	s.last = acknowledged
	if s.last >= s.count {
		select {
		case <-s.whole:
		default:
			close(s.whole)
		}
	}
}

// result waits until all are acknowledged.
func (s *stopwatch) result(ctx context.Context) (result, error) {
	select {
	case <-s.whole:
	case <-ctx.Done():
		return result{}, fmt.Errorf("%d of %d were sent: %w", s.last, s.count, ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return result{
		Done: int64(s.last - s.first), Seconds: s.end.Sub(s.began).Seconds(),
		ServerCPU: ownCPU() - s.cpu,
	}, nil
}
