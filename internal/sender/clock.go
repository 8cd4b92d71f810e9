package sender

import (
	"context"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

// clockOffsetMax is how far this machine's clock may be from the database's without a warning. NTP
// keeps clocks within a second, and Kafka's own bounds are hours.
const clockOffsetMax = time.Minute

// measureClock measures how far this machine's clock is ahead of the database's, and warns of a
// large difference. Records have this machine's time. Kafka deletes them by it (retention.ms), and
// refuses those that are too far ahead (message.timestamp.after.max.ms, an hour by default).
func (s *Sender) measureClock(ctx context.Context, presence *store.Presence) error {
	began := s.now()
	theirs, err := presence.Now(ctx)
	if err != nil {
		return err
	}
	took := s.now().Sub(began)
	ahead := began.Add(took / 2).Sub(theirs)
	s.Metrics.clockAhead(ahead)
	if ahead.Abs() > clockOffsetMax && time.Since(s.clockLogged) >= logEvery {
		s.clockLogged = time.Now()
		s.Logger.Warn("clock differs from the database's", "ahead_seconds", ahead.Round(time.Second).Seconds())
	}
	return nil
}
