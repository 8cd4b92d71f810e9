package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/progress"
)

// showing calls work, and shows on a terminal what is done and for how long. Nothing is shown if
// the output is no terminal, or if work takes less than half a second.
func showing[T any](ctx context.Context, out cli.Output, what string, work func() (T, error)) (T, error) {
	return showingOn(ctx, progress.Terminal(out.Stderr), what, work)
}

func showingOn[T any](
	ctx context.Context, terminal io.Writer, what string, work func() (T, error),
) (result T, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		progress.Show(ctx, terminal, func(elapsed time.Duration) string {
			return fmt.Sprintf("%s: %d s", what, int(elapsed.Seconds()))
		})
	})
	defer shown.Wait() // The line is cleared before the result is printed.
	defer cancel()
	return work()
}
