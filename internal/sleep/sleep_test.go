package sleep

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		timeout time.Duration // Of the context.
		want    error
		took    time.Duration
	}{
		{"the time passes", time.Minute, nil, 10 * time.Second},
		{"the context ends", 3 * time.Second, context.DeadlineExceeded, 3 * time.Second},
		{"the context has ended", 0, context.DeadlineExceeded, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
				defer cancel()
				began := time.Now()
				err := For(ctx, 10*time.Second)
				if took := time.Since(began); !errors.Is(err, tc.want) || took != tc.took {
					t.Errorf("got %v after %s, want %v after %s", err, took, tc.want, tc.took)
				}
			})
		})
	}
}
