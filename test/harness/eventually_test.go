package harness

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestEventually(t *testing.T) {
	t.Parallel()
	errDown, errHalted := errors.New("down"), errors.New("halted")
	const timeout = 20*pollInterval - pollInterval/2
	for _, tc := range []struct {
		name   string
		limit  time.Duration // Of the context.
		check  func(calls int) error
		want   []error
		text   string
		checks int
	}{
		{"at once", time.Hour, func(int) error { return nil }, nil, "", 1},
		{"at the third check", time.Hour, func(n int) error { return Holds(n == 3, nil) }, nil, "", 3},
		{
			"not within the time", time.Hour, func(int) error { return errDown },
			[]error{errDown},
			"the server responds: not within 975ms: down", int(timeout/pollInterval) + 1,
		},
		{
			"the condition never holds", time.Hour, func(int) error { return Holds(false, nil) },
			[]error{errNotYet},
			"the server responds: not within 975ms: not yet", int(timeout/pollInterval) + 1,
		},
		{
			"the context ends", pollInterval * 5 / 2, func(int) error { return errDown },
			[]error{errDown, context.DeadlineExceeded},
			"the server responds: context deadline exceeded: down", 3,
		},
		{
			"a permanent error", time.Hour, func(int) error { return Permanent(errHalted) },
			[]error{errHalted},
			"the server responds: halted", 1,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tc.limit)
				defer cancel()
				checks := 0
				err := Eventually(ctx, timeout, "the server responds", func(context.Context) error {
					checks++
					return tc.check(checks)
				})
				if text := message(err); text != tc.text || checks != tc.checks {
					t.Errorf("got %q after %d checks, want %q after %d", text, checks, tc.text, tc.checks)
				}
				for _, want := range tc.want {
					if !errors.Is(err, want) {
						t.Errorf("got %v, want it to wrap %v", err, want)
					}
				}
			})
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPermanent_Nil(t *testing.T) {
	t.Parallel()
	if err := Permanent(nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
