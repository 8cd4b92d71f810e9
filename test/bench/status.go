//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// storedOf is how many payments there are to query.
func storedOf(short bool) int64 {
	if short {
		return 100_000
	}
	return 1_000_000
}

// measureStatus compares reads over HTTP with the same server that has its response already.
func measureStatus(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{5, 8 * time.Second}, length{3, 4 * time.Second})
	stored := storedOf(short)
	i, service, err := b.serving(ctx, stored)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	constant, err := startRole(ctx, "constant", job{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, constant.end()) }()

	reads := order{APIKey: i.APIKey, Connections: connections, For: l.each, Reads: 1, Stored: stored}
	warm := reads
	warm.For = time.Second
	for _, s := range []*server{service, constant} {
		if _, err := b.load(ctx, s, warm); err != nil {
			return nil, err
		}
	}
	turns, err := alternate(ctx, l.turns,
		contender{"status", func(ctx context.Context) (result, error) { return b.load(ctx, service, reads) }},
		contender{"constant", func(ctx context.Context) (result, error) { return b.load(ctx, constant, reads) }},
	)
	if err != nil {
		return nil, err
	}
	f := turns.figures("status", "constant", result.rate)
	turns.perRequest("status", f.raw)
	turns.perRequest("constant", f.raw)
	turns.latencies("status", f.raw)
	turns.latencies("constant", f.raw)
	return map[string]figures{"status_vs_constant": f}, b.profileLoad(ctx, "status", service, reads)
}
