// Package sleep waits for a time, or until a context ends.
package sleep

import (
	"context"
	"time"
)

// For returns nil after d, or the error of ctx if that ends first.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
