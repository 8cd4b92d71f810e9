// Package progress shows on a terminal how far a long command has come.
package progress

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// interval is the time between two updates, and before the first one: a short command shows
	// none.
	interval = 500 * time.Millisecond
	barWidth = 20
	// Clear is the sequence that clears the line of a terminal. Write it before other output, so
	// that this output does not follow a progress line.
	Clear = "\r\x1b[K"
)

// Terminal returns w if it is a terminal, and nil otherwise: files and pipes get no progress.
func Terminal(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}

// Show keeps one line of the terminal up to date until ctx ends, and clears it then. It calls line
// with the time since its begin. It does nothing if terminal is nil.
func Show(ctx context.Context, terminal io.Writer, line func(elapsed time.Duration) string) {
	if terminal == nil {
		return
	}
	start := time.Now()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	defer fmt.Fprint(terminal, Clear)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fmt.Fprint(terminal, Clear+line(time.Since(start)))
		}
	}
}

// Start begins to show a line as Show does. The returned function ends that; it returns when the
// line is cleared.
func Start(ctx context.Context, terminal io.Writer, line func(elapsed time.Duration) string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() { Show(ctx, terminal, line) })
	return func() {
		cancel()
		shown.Wait()
	}
}

// Bar returns a bar for done of total, such as [==========          ]. It is empty if total is not
// known.
func Bar[T int | int64 | time.Duration](done, total T) string {
	if total <= 0 {
		return ""
	}
	full := min(int(barWidth*(float64(done)/float64(total))), barWidth)
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
}
