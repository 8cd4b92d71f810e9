//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// measureFirst compares the first create of a process that has just become ready with the median of
// those that follow one by one, each time with a new process. The parties are new to the process,
// and stored already.
func measureFirst(ctx context.Context, b *bench, short bool) (map[string]figures, error) {
	l := lengthOf(short, length{turns: 9}, length{turns: 3})
	i, err := b.withStored(ctx, storedOf(true))
	if err != nil {
		return nil, err
	}
	f := figures{raw: map[string]float64{}}
	for range l.turns {
		first, median, err := b.firstOf(ctx, i)
		if err != nil {
			return nil, err
		}
		f.work, f.baseline = append(f.work, first), append(f.baseline, median)
	}
	return map[string]figures{"first_payment": f}, nil
}

// firstOf returns how many milliseconds the first create of a fresh service takes, and the median
// one.
func (b *bench) firstOf(ctx context.Context, i *installation) (first, median float64, err error) {
	service, err := b.startService(ctx, "api", i)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	const settled = time.Second // What starts with the process has ended.
	time.Sleep(settled)
	one := order{APIKey: i.APIKey, Connections: 1, Count: 1, Creates: 1}
	r, err := b.load(ctx, service, one)
	if err != nil {
		return 0, 0, err
	}
	first = r.All.Max
	one.Count = 500
	r, err = b.load(ctx, service, one)
	return first, r.All.P50, err
}
