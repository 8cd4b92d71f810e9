package loadtest

import (
	"syscall"
	"time"
)

// pause sleeps a few milliseconds by the kernel's own timer. Go's timers wait in epoll, whose unit is a millisecond, and come nearly that much late on
// an idle machine; counted from when a request was due, all latencies would be too long by it. Measured: 0.9 ms late by time.Sleep, 0.08 ms so.
func pause(d time.Duration) {
	left := syscall.NsecToTimespec(int64(d))
	for syscall.Nanosleep(&left, &left) == syscall.EINTR {
	}
}
