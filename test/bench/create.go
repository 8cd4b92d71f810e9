//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// connections is the number of concurrent clients.
const connections = 64

// measureCreate compares creates over HTTP with inserts and with the plain handler, on one
// database.
func measureCreate(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{5, 10 * time.Second}, length{3, 4 * time.Second})
	i, service, err := b.serving(ctx, 100_000)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	const inserters = 32
	plain, err := startRole(ctx, "plain", job{URL: i.URL, APIKey: i.APIKey, Connections: inserters})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plain.end()) }()

	creates := order{APIKey: i.APIKey, Connections: connections, For: l.each, Creates: 1}
	warm := creates
	warm.For = 0
	warm.Count = people // Each party and account is known then.
	for _, s := range []*server{service, plain} {
		if _, err := b.load(ctx, s, warm); err != nil {
			return nil, err
		}
	}
	turns, err := alternate(ctx, l.turns,
		contender{"create", func(ctx context.Context) (result, error) {
			return b.afterCheckpoint(ctx, i, service, creates)
		}},
		contender{"insert", func(ctx context.Context) (result, error) {
			return b.insertAlone(ctx, i, inserters, l.each)
		}},
		contender{"plain", func(ctx context.Context) (result, error) {
			return b.afterCheckpoint(ctx, i, plain, creates)
		}},
	)
	if err != nil {
		return nil, err
	}
	vsInsert, vsPlain := turns.figures("create", "insert", result.rate), turns.figures("create", "plain", result.rate)
	turns.perRequest("create", vsInsert.raw)
	turns.perRequest("insert", vsInsert.raw)
	turns.perRequest("plain", vsPlain.raw)
	turns.latencies("create", vsInsert.raw)
	turns.latencies("plain", vsPlain.raw)
	lines := map[string]figures{"create_vs_insert": vsInsert, "create_vs_plain": vsPlain}
	return lines, b.profileLoad(ctx, "create", service, creates)
}

// afterCheckpoint loads a server after a checkpoint, so that no run pays for the writes of another.
func (b *bench) afterCheckpoint(ctx context.Context, i *installation, s *server, o order) (result, error) {
	if err := i.checkpoint(ctx); err != nil {
		return result{}, err
	}
	return b.load(ctx, s, o)
}

func (b *bench) insertAlone(ctx context.Context, i *installation, inserters int, each time.Duration) (result, error) {
	if err := i.checkpoint(ctx); err != nil {
		return result{}, err
	}
	before := treeCPU(b.postgres)
	r, err := do(ctx, "insert", job{URL: i.URL, Connections: inserters, For: each})
	r.PostgresCPU = treeCPU(b.postgres) - before
	return r, err
}

// latencies adds a contender's median percentiles, in milliseconds.
func (r results) latencies(name string, raw map[string]float64) {
	raw[name+"_p50_ms"] = r.median(name, func(x result) float64 { return x.All.P50 })
	raw[name+"_p95_ms"] = r.median(name, func(x result) float64 { return x.All.P95 })
	raw[name+"_p99_ms"] = r.median(name, func(x result) float64 { return x.All.P99 })
}
