//go:build !linux

package payclient

import "time"

// pause sleeps a few milliseconds.
func pause(d time.Duration) { time.Sleep(d) }
