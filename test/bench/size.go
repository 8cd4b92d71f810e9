//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

// seedBytes is what the seed of this project allows a stored payment.
const seedBytes = 200

// measureSize makes payments over HTTP while senders run, waits until all are sent, and measures
// what they take as they then are: nothing is vacuumed but by PostgreSQL itself.
func measureSize(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	count := int64(1_000_000)
	if short {
		count = 20_000
	}
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, i.drop(ctx)) }()
	service, err := b.startService(ctx, "serve", i)
	if err != nil {
		return nil, err
	}
	_, err = b.load(ctx, service, order{APIKey: i.APIKey, Connections: connections, Creates: 1, Count: count})
	err = errors.Join(err, i.awaitSent(ctx), service.end())
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, i.URL, 2)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	m, err := s.Storage(ctx)
	if err != nil {
		return nil, err
	}
	if m.Payments != count {
		return nil, fmt.Errorf("%d of %d payments are stored", m.Payments, count)
	}
	each := func(bytes int64) float64 { return float64(bytes) / float64(count) }
	return map[string]figures{
		"row_bytes": {work: []float64{each(m.RowBytes)}, baseline: []float64{seedBytes}},
		"total_bytes": {work: []float64{each(m.TotalDisk)}, baseline: []float64{seedBytes}, raw: map[string]float64{
			"heap_bytes": each(m.Heap), "index_bytes": each(m.Indexes), "dead_bytes": each(m.Dead),
			"party_bytes": each(m.Parties), "account_bytes": each(m.Accounts),
		}},
	}, nil
}

// awaitSent waits until nothing is left to be sent.
func (i *installation) awaitSent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	for {
		var unsent bool
		err := i.sql.QueryRow(ctx, `select exists (select from payments where status = 'created')`).Scan(&unsent)
		if err != nil {
			return fmt.Errorf("waiting until all is sent: %w", err)
		}
		if !unsent {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}
