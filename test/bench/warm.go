//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// warmTopic takes records that are no payments.
const warmTopic = "warm"

// warmBroker has the broker do transactions until its code is compiled, once in a run. One that was
// started a moment ago spends a quarter of its time on compiling, and that on whatever is measured
// first; in operation a broker has been up for long.
func (b *bench) warmBroker(ctx context.Context) error {
	if b.warm {
		return nil
	}
	if _, err := b.createTopic(ctx, warmTopic); err != nil {
		return err
	}
	const producers, each = 16, 30 * time.Second // About 30,000 transactions.
	work, ctx := errgroup.WithContext(ctx)
	for n := range producers {
		work.Go(func() error {
			_, err := transactionAlone(ctx, b.installed.Broker, fmt.Sprintf("warm-%d", n), each)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return fmt.Errorf("warm the broker: %w", err)
	}
	b.warm = true
	return nil
}
