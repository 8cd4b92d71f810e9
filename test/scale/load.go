package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// loader runs payclient inside the compose file's network: it finds the replicas by the service's name.
type loader struct {
	compose
	duration time.Duration
	workers  int
}

func (l loader) run(ctx context.Context) (loadResult, error) {
	out, err := l.compose.compose(ctx, "run", "--rm", "-T", "--no-deps", "client", "load", "--json",
		"--duration", l.duration.String(), "--workers", strconv.Itoa(l.workers), "--reads", "3")
	if err != nil {
		return loadResult{}, fmt.Errorf("load: %w\n%s", err, out)
	}
	return parseLoad(out)
}
