//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

const (
	outageRate = 1000 // Creates a second, before, during and after.
	// outageAfter is how long creates go on after Kafka is back.
	outageAfter = 30 * time.Second
	// catchUpMax bounds the wait for what the outage has left.
	catchUpMax = 5 * time.Minute
)

// measureOutage shows what a user sees of an outage of Kafka: the p99 of creates while it lasts,
// next to the p99 before, and how long it takes until all that waited is sent. The broker is
// frozen, so that nothing is refused and everything has to time out.
func measureOutage(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	away := b.outage
	if short {
		away = 10 * time.Second
	}
	i, service, err := b.sending(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end(), i.drop(ctx)) }()
	creates := order{APIKey: i.APIKey, Connections: connections, For: 30 * time.Second, Rate: outageRate, Creates: 1}
	before, err := b.load(ctx, service, creates)
	if err != nil {
		return nil, err
	}
	creates.For = away
	during, err := b.loadWhilePaused(ctx, service, creates)
	if err != nil {
		return nil, err
	}
	back := time.Now()
	var waiting float64
	if err := i.sql.QueryRow(ctx, `select count(*) from payments where status = 'created'`).Scan(&waiting); err != nil {
		return nil, err
	}
	creates.For = outageAfter
	loaded := make(chan error, 1)
	var after result
	go func() {
		var err error
		after, err = b.load(ctx, service, creates)
		loaded <- err
	}()
	caughtUp, err := i.caughtUp(ctx, back)
	err = errors.Join(err, <-loaded)
	if err != nil {
		return nil, err
	}
	if _, err := i.caughtUp(ctx, time.Now()); err != nil {
		return nil, err
	}
	if err := b.marksAreInTopic(ctx, i, 0); err != nil {
		return nil, err
	}
	return map[string]figures{
		"outage_p99": {
			work: []float64{during.Create.P99}, baseline: []float64{before.Create.P99},
			raw: map[string]float64{
				"before_p50_ms": before.Create.P50, "during_p50_ms": during.Create.P50,
				"during_max_ms": during.Create.Max,
				"after_p50_ms":  after.Create.P50, "after_p99_ms": after.Create.P99, "after_max_ms": after.Create.Max,
			},
		},
		"outage_catch_up": {
			work: []float64{caughtUp.Seconds()}, baseline: []float64{away.Seconds()},
			raw: map[string]float64{"waiting": waiting},
		},
	}, nil
}

// loadWhilePaused puts an order to the service while the broker is frozen.
func (b *bench) loadWhilePaused(ctx context.Context, service *server, o order) (r result, err error) {
	if err := b.installed.PauseBroker(ctx, true); err != nil {
		return r, err
	}
	r, err = b.load(ctx, service, o)
	return r, errors.Join(err, b.installed.PauseBroker(context.WithoutCancel(ctx), false))
}

// caughtUp waits until all is sent that was stored before the given time, and returns how long ago
// that was then.
func (i *installation) caughtUp(ctx context.Context, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUpMax)
	defer cancel()
	err := i.await(ctx, func() (bool, error) {
		const poll = 100 * time.Millisecond // Each query may read all that waits.
		time.Sleep(poll)
		var unsent bool
		err := i.sql.QueryRow(ctx, `select exists (
			select from payments where status = 'created' and created_at < $1)`, since).Scan(&unsent)
		return !unsent, err
	})
	return time.Since(since), err
}
