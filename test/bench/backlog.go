//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// measureBacklog compares the drain of a large backlog, whose statistics are those of a day on
// which everything was sent, and the drain of one partition, with that of a fresh and small
// backlog.
func measureBacklog(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{turns: 5}, length{turns: 3})
	sent, waiting, drained := int64(1_000_000), int64(2_000_000), int64(200_000)
	if short {
		sent, waiting, drained = 100_000, 250_000, 50_000
	}
	if err := b.warmBroker(ctx); err != nil {
		return nil, err
	}
	large, err := b.largeBacklog(ctx, sent, waiting)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, large.drop(ctx)) }()
	turns, err := alternate(ctx, l.turns,
		contender{"backlog", func(ctx context.Context) (result, error) {
			return b.drainPart(ctx, large, sent, drained)
		}},
		contender{"fresh", func(ctx context.Context) (result, error) {
			return b.drainFresh(ctx, store.DeliveryFenced, drained, "")
		}},
		contender{"hot", func(ctx context.Context) (result, error) { return b.drainHot(ctx, drained) }})
	if err != nil {
		return nil, err
	}
	lines := map[string]figures{
		"drain_backlog": turns.figures("backlog", "fresh", result.rate),
		"drain_hot":     turns.figures("hot", "fresh", result.rate),
	}
	turns.perRequest("backlog", lines["drain_backlog"].raw)
	turns.perRequest("fresh", lines["drain_backlog"].raw)
	turns.perRequest("hot", lines["drain_hot"].raw)
	return lines, nil
}

// largeBacklog is an installation whose statistics were taken when all of its payments were sent,
// and where many more wait now. A table of a hundred million rows is not analyzed for ten million
// changes either, so autovacuum is off.
func (b *bench) largeBacklog(ctx context.Context, sent, waiting int64) (*installation, error) {
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return nil, err
	}
	if _, err := i.sql.Exec(ctx, `alter table payments set (autovacuum_enabled = off)`); err != nil {
		return nil, err
	}
	if err := i.fill(ctx, sent, true); err != nil {
		return nil, err
	}
	if err := i.store(ctx, sent+1, sent+waiting, false, partitions); err != nil {
		return nil, err
	}
	return i, i.checkpoint(ctx)
}

// drainPart drains at least count payments of those that wait.
func (b *bench) drainPart(ctx context.Context, i *installation, sentBefore, count int64) (result, error) {
	before := treeCPU(b.postgres)
	r, err := do(ctx, "drain", job{
		URL: i.URL, Broker: i.Broker, Topic: i.Topic, Delivery: string(store.DeliveryFenced),
		Count: int(count),
	})
	r.PostgresCPU = treeCPU(b.postgres) - before
	if err != nil {
		return r, err
	}
	return r, b.marksAreInTopic(ctx, i, sentBefore)
}

// marksAreInTopic compares the topic with what was marked since sentBefore payments were: each of
// them must be there, once.
func (b *bench) marksAreInTopic(ctx context.Context, i *installation, sentBefore int64) error {
	var marked int64
	if err := i.sql.QueryRow(ctx, `select count(*) from payments where status = 'sent'`).Scan(&marked); err != nil {
		return err
	}
	records, keys := int64(0), map[string]bool{}
	err := readAll(ctx, i.Broker, i.Topic, func(r kafka.Record) error {
		records++
		keys[string(r.Key)] = true
		return nil
	})
	if want := marked - sentBefore; err == nil && (records != want || int64(len(keys)) != want) {
		err = fmt.Errorf("%d payments are marked, %d records of %d payments are in the topic", want, records, len(keys))
	}
	return err
}

// drainHot drains count payments that are all in one partition, as those of one account are.
func (b *bench) drainHot(ctx context.Context, count int64) (r result, err error) {
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, i.drop(ctx)) }()
	const one = 1
	if err := i.store(ctx, 1, count, false, one); err != nil {
		return r, err
	}
	if err := i.settle(ctx); err != nil {
		return r, err
	}
	return b.drainOne(ctx, i, store.DeliveryFenced, count, "")
}
