package sender

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

// TestSender_Clock: a sender warns of a clock that is far from the database's, ahead or behind, and
// of no other.
func TestSender_Clock(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	presence, err := r.store.Register(bounded(t), store.DeliveryLocked)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(presence.Deregister)
	for _, row := range []struct {
		ahead time.Duration
		warns bool
	}{{0, false}, {-30 * time.Second, false}, {-time.Hour, true}, {8 * 24 * time.Hour, true}} {
		var log bytes.Buffer
		s := r.replica(func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		s.now = func() time.Time { return time.Now().Add(row.ahead) }
		if err := s.measureClock(bounded(t), presence); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "clock differs from the database's"); got != row.warns {
			t.Errorf("%s ahead: warned %t, want %t: %s", row.ahead, got, row.warns, log.String())
		}
		got := time.Duration(s.value("paylatch_sender_clock_ahead_seconds") * float64(time.Second))
		if off := (got - row.ahead).Abs(); off > clockOffsetMax/2 {
			// The database runs on this machine.
			t.Errorf("%s ahead: measured %s", row.ahead, got)
		}
	}
}
