package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
)

// ErrLocked is returned by LockFile.
var ErrLocked = errors.New("locked by another process")

// LockFile takes the exclusive lock of a file, which it creates if absent, or returns ErrLocked.
// The lock ends when the file is closed or the process dies, by whatever signal. Children do not
// inherit it, since Go opens files close-on-exec.
func LockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// waitForLock tries LockFile until it succeeds, at most for the time given. It tries repeatedly
// rather than block in the kernel, where a context could not end it.
func waitForLock(ctx context.Context, path string, most time.Duration) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		f, err := LockFile(path)
		if !errors.Is(err, ErrLocked) {
			return f, err
		}
		if sleep.For(ctx, 50*time.Millisecond) != nil {
			return nil, fmt.Errorf("%s: %w", path, ErrLocked)
		}
	}
}
