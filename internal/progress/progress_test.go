package progress

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestShow(t *testing.T) {
	for name, tc := range map[string]struct {
		length time.Duration
		want   string
	}{
		"Short": {interval - 1, Clear},
		"Long":  {2*interval + 1, Clear + "after 500ms" + Clear + "after 1s" + Clear},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tc.length)
				defer cancel()
				var terminal bytes.Buffer
				Show(ctx, &terminal, func(elapsed time.Duration) string { return "after " + elapsed.String() })
				if got := terminal.String(); got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
			})
		})
	}
	Show(t.Context(), nil, func(time.Duration) string { panic("line of no terminal") })
}

// TestTerminal: a file, a pipe and a buffer are no terminals.
func TestTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if Terminal(file) != nil || Terminal(w) != nil || Terminal(&bytes.Buffer{}) != nil {
		t.Error("got a terminal")
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if Terminal(terminal) == nil {
		t.Error("got nil for a pseudo terminal")
	}
}

func TestBar(t *testing.T) {
	for want, got := range map[string]string{
		"":                          Bar(3, 0),
		"[" + spaces(20) + "]":      Bar(0, 4),
		"[=====" + spaces(15) + "]": Bar(2*time.Second, 8*time.Second),
		"[====================]":    Bar(int64(9), int64(4)),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func spaces(n int) string { return strings.Repeat(" ", n) }
