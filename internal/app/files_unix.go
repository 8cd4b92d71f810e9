//go:build unix

package app

import (
	"math"
	"syscall"
)

// openFilesMax returns how many files this process may open. Go has raised the soft limit to the
// hard one by now.
func openFilesMax() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt // It cannot fail for a limit that exists.
	}
	return int(min(limit.Cur, math.MaxInt))
}
