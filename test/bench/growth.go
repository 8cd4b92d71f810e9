//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// measureGrowth compares creates beside ten million stored payments with creates beside a hundred thousand, each in a database and with a service of its own.
func measureGrowth(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l, large := lengthOf(short, length{5, 8 * time.Second}, length{3, 4 * time.Second}), int64(10_000_000)
	if short {
		large = 1_000_000
	}
	contenders := make([]contender, 0, 2)
	for _, c := range []struct {
		name   string
		stored int64
	}{{"many", large}, {"few", 100_000}} {
		i, service, err := b.serving(ctx, c.stored)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, service.end()) }()
		creates := order{APIKey: i.APIKey, Connections: connections, For: l.each, Creates: 1}
		warm := creates
		warm.For, warm.Count = 0, people
		if _, err := b.load(ctx, service, warm); err != nil {
			return nil, err
		}
		contenders = append(contenders, contender{c.name, func(ctx context.Context) (result, error) { return b.afterCheckpoint(ctx, i, service, creates) }})
	}
	turns, err := alternate(ctx, l.turns, contenders...)
	if err != nil {
		return nil, err
	}
	f := turns.figures("many", "few", result.rate)
	turns.perRequest("many", f.raw)
	turns.perRequest("few", f.raw)
	return map[string]figures{"create_10m_vs_100k": f}, nil
}
