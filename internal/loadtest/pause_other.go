//go:build !linux

package loadtest

import "time"

// pause sleeps a few milliseconds.
func pause(d time.Duration) { time.Sleep(d) }
