package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestShowing: a terminal shows what a long command does and for how long, and the line is cleared
// when the command returns. Without a terminal nothing is shown.
func TestShowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := errors.New("a test")
		long := func() (int, error) {
			time.Sleep(3200 * time.Millisecond)
			return 7, failure
		}
		var terminal bytes.Buffer
		n, err := showingOn(t.Context(), &terminal, "verifying", long)
		shown := terminal.String()
		if n != 7 || !errors.Is(err, failure) {
			t.Errorf("got %d, %v; want the result of the work", n, err)
		}
		if !strings.Contains(shown, "verifying: 3 s") || !strings.HasSuffix(shown, "\r\x1b[K") {
			t.Errorf("got %q, want the time, and a line that is cleared", shown)
		}
		if _, err := showingOn(t.Context(), nil, "verifying", long); !errors.Is(err, failure) {
			t.Errorf("without a terminal: got %v, want the result of the work", err)
		}
	})
}
