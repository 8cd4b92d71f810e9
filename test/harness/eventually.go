package harness

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
)

// pollInterval is the time between two checks of Eventually.
const pollInterval = 50 * time.Millisecond

// Eventually calls check until it returns nil, for timeout at most. Its error names what it waited
// for, and wraps the last error of check. An error made by Permanent ends the wait at once.
func Eventually(
	ctx context.Context, timeout time.Duration, what string, check func(context.Context) error,
) error {
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := check(within)
		if err == nil {
			return nil
		}
		if p, ok := errors.AsType[permanentError](err); ok {
			return fmt.Errorf("%s: %w", what, p.error)
		}
		if sleep.For(within, pollInterval) == nil {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		}
		return fmt.Errorf("%s: not within %s: %w", what, timeout, err)
	}
}

type permanentError struct{ error }

// Permanent marks an error that no further check can mend. It returns nil for nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// errNotYet is what a condition is that does not hold.
var errNotYet = errors.New("not yet")

// Holds turns a condition into the error that Eventually takes.
func Holds(holds bool, err error) error {
	if err == nil && !holds {
		err = errNotYet
	}
	return err
}

// Pause waits for d, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) { _ = sleep.For(ctx, d) }
