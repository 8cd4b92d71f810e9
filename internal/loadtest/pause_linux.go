package loadtest

import (
	"syscall"
	"time"
)

// pause sleeps a few milliseconds by the timer of the kernel. Go's timers wait in epoll, whose unit
// is a millisecond, and are nearly that late on an idle machine. Latencies count from the planned
// time, so all would be that much longer. Measured: time.Sleep is 0.9 ms late, nanosleep 0.08 ms.
func pause(d time.Duration) {
	left := syscall.NsecToTimespec(int64(d))
	for syscall.Nanosleep(&left, &left) == syscall.EINTR {
	}
}
