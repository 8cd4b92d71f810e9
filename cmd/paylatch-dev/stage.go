package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/progress"
)

// stages prints what the demo does while it starts: a line for each stage, and on a terminal how
// much of PostgreSQL is downloaded. Safe for concurrent use.
type stages struct {
	out io.Writer

	mu          sync.Mutex
	stage       string
	done, total int64 // Of the download, in bytes; 0 before it.
}

// begin prints the stage that begins.
func (s *stages) begin(stage string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked(stage)
}

func (s *stages) beginLocked(stage string) {
	clearLine := ""
	if progress.Terminal(s.out) != nil {
		clearLine = progress.Clear
	}
	s.stage = stage
	_, _ = fmt.Fprintf(s.out, "%s%s\n", clearLine, stage)
}

// downloaded notes how much of PostgreSQL is downloaded. The first call begins a stage.
func (s *stages) downloaded(done, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total == 0 {
		s.beginLocked(fmt.Sprintf("downloading PostgreSQL, %s; this happens once", megabytes(total)))
	}
	s.done, s.total = done, total
	if done == total {
		s.beginLocked("unpacking PostgreSQL and creating its data")
	}
}

// line returns the line that is kept up to date on a terminal.
func (s *stages) line(elapsed time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total > 0 && s.done < s.total {
		return fmt.Sprintf("%s %s of %s", progress.Bar(s.done, s.total), megabytes(s.done), megabytes(s.total))
	}
	return fmt.Sprintf("%d s", int(elapsed.Seconds()))
}

// show keeps the line up to date until stop is called.
func (s *stages) show(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var showing sync.WaitGroup
	showing.Go(func() { progress.Show(ctx, progress.Terminal(s.out), s.line) })
	return func() {
		cancel()
		showing.Wait()
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
