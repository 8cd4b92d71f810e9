//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// Shares of the most that the service bears: as busy as one should let it be, and nearly idle.
const (
	busyShare  = 0.6
	quietShare = 0.1
)

// openConnections is how many the open model may use: enough that a request seldom waits for one,
// and when it does, the wait counts.
const openConnections = 256

// measureMixed compares the 99th percentile at 60 % of the most that the service bears with that at
// 10 %, one create to ten reads.
func measureMixed(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{3, 20 * time.Second}, length{3, 4 * time.Second})
	stored := storedOf(short)
	i, service, err := b.serving(ctx, stored)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	mix := order{APIKey: i.APIKey, Connections: connections, For: l.each / 2, Creates: 1, Reads: 10, Stored: stored}
	most, err := b.most(ctx, service, mix)
	if err != nil {
		return nil, err
	}
	mix.Connections, mix.For = openConnections, l.each
	at := func(share float64) func(context.Context) (result, error) {
		o := mix
		o.Rate = share * most
		return func(ctx context.Context) (result, error) { return b.load(ctx, service, o) }
	}
	turns, err := alternate(ctx, l.turns, contender{"busy", at(busyShare)}, contender{"quiet", at(quietShare)})
	if err != nil {
		return nil, err
	}
	f := turns.figures("busy", "quiet", func(r result) float64 { return r.All.P99 })
	f.raw["most_per_s"] = most
	for _, name := range []string{"busy", "quiet"} {
		for kind, of := range map[string]func(result) latency{
			"create": func(r result) latency { return r.Create },
			"status": func(r result) latency { return r.Read },
		} {
			f.raw[name+"_"+kind+"_p50_ms"] = turns.median(name, func(r result) float64 { return of(r).P50 })
			f.raw[name+"_"+kind+"_p90_ms"] = turns.median(name, func(r result) float64 { return of(r).P90 })
			f.raw[name+"_"+kind+"_p95_ms"] = turns.median(name, func(r result) float64 { return of(r).P95 })
			f.raw[name+"_"+kind+"_p99_ms"] = turns.median(name, func(r result) float64 { return of(r).P99 })
		}
		turns.perRequest(name, f.raw)
	}
	return map[string]figures{"mixed_p99": f}, nil
}

// most measures how many requests a second the service bears: a closed loop, the first time to warm
// up and the second time to count.
func (b *bench) most(ctx context.Context, s *server, o order) (float64, error) {
	if _, err := b.load(ctx, s, o); err != nil {
		return 0, err
	}
	r, err := b.load(ctx, s, o)
	return r.rate(), err
}
