package app

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSenderHealth_OnePing: a thousand probes come at once, and again. One ping is in progress at
// most, and its result is used for pingAgeMax and no longer.
func TestSenderHealth_OnePing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errAway := errors.New("away")
		var pings atomic.Int32
		health := newSenderHealth(func(ctx context.Context) error {
			pings.Add(1)
			select {
			case <-time.After(pingAgeMax / 2):
				return errAway
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		health.found()
		probe := func(want int32) {
			t.Helper()
			var probes sync.WaitGroup
			for range 1000 {
				probes.Go(func() {
					if err := health.ready(t.Context()); !errors.Is(err, errAway) {
						t.Errorf("got %v, want the result of the ping", err)
					}
				})
			}
			probes.Wait()
			if got := pings.Load(); got != want {
				t.Errorf("got %d pings, want %d", got, want)
			}
		}
		probe(1)
		time.Sleep(pingAgeMax/2 - time.Millisecond)
		probe(1)
		time.Sleep(time.Millisecond)
		probe(2)
		gone, leave := context.WithCancel(t.Context())
		leave()
		time.Sleep(pingAgeMax)
		if err := health.ready(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("the client is gone: got %v, want context.Canceled", err)
		}
		probe(3) // The ping of the client that is gone serves the others.
	})
}
