//go:build linux

package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

// The lock classes of package store: replicas that are there, and partitions that are owned.
const (
	selectReplicas = `select count(distinct client_port) from pg_locks join pg_stat_activity using (pid)
		where locktype = 'advisory' and granted and classid = 1886413921 and datname = current_database()`
	selectOwned = `select count(*), count(distinct pid) from pg_locks
		where locktype = 'advisory' and granted and classid = 1886413922
		and database = (select oid from pg_database where datname = current_database())`
)

// takeoverTimeout bounds one takeover: several times what PostgreSQL takes to find that a session
// is gone.
const takeoverTimeout = time.Minute

// measureTakeover kills with -9 a replica that owns partitions, and measures until another has
// taken them all over: from the kill, and from the end of the owner's sessions.
func measureTakeover(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{turns: 15}, length{turns: 5})
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return nil, err
	}
	if err := i.fill(ctx, 10_000, false); err != nil {
		return nil, err
	}
	var took atomic.Int64 // When the survivor last took a partition over, in nanoseconds.
	j := job{URL: i.URL, Broker: i.Broker, Topic: i.Topic, Delivery: string(store.DeliveryFenced)}
	survivor, closeAll, err := newSender(j, prometheus.NewRegistry(), func(c *sender.Config) {
		c.At = func(_ int32, p sender.Point) {
			if p == sender.TakeoverDone {
				took.Store(time.Now().UnixNano())
			}
		}
	})
	if err != nil {
		return nil, err
	}
	defer closeAll()
	running, stop := context.WithCancel(ctx)
	var over sync.WaitGroup
	over.Go(func() { survivor.Run(running) })
	defer over.Wait()
	defer stop()
	f := figures{raw: map[string]float64{}}
	for range l.turns {
		fromKill, fromEnd, err := i.killOwner(ctx, j, &took)
		if err != nil {
			return nil, err
		}
		f.work, f.baseline = append(f.work, fromKill), append(f.baseline, fromEnd)
	}
	return map[string]figures{"take_over_ms": f}, nil
}

// killOwner starts a replica, waits until it owns its share, kills it, and returns the milliseconds
// until the survivor has taken over.
func (i *installation) killOwner(ctx context.Context, j job, took *atomic.Int64) (fromKill, fromEnd float64,
	err error,
) {
	ctx, cancel := context.WithTimeout(ctx, takeoverTimeout)
	defer cancel()
	victim, err := roleCommand(ctx, "send", j)
	if err != nil {
		return 0, 0, err
	}
	if err := victim.cmd.Start(); err != nil {
		return 0, 0, err
	}
	err = i.await(ctx, func() (bool, error) {
		var replicas, owned, owners int
		err := errors.Join(i.sql.QueryRow(ctx, selectReplicas).Scan(&replicas),
			i.sql.QueryRow(ctx, selectOwned).Scan(&owned, &owners))
		return replicas == 2 && owned == partitions, err
	})
	time.Sleep(1500 * time.Millisecond) // It has shared, and taken over.
	killed := time.Now()
	err = errors.Join(err, victim.cmd.Process.Kill())
	_ = victim.cmd.Wait() // It was killed.
	if err != nil {
		return 0, 0, err
	}
	if err := i.await(ctx, func() (bool, error) {
		var replicas int
		err := i.sql.QueryRow(ctx, selectReplicas).Scan(&replicas)
		return replicas == 1, err
	}); err != nil {
		return 0, 0, err
	}
	ended := time.Now()
	if err := i.await(ctx, func() (bool, error) { return took.Load() > killed.UnixNano(), nil }); err != nil {
		return 0, 0, err
	}
	at := time.Unix(0, took.Load())
	return at.Sub(killed).Seconds() * 1000, at.Sub(ended).Seconds() * 1000, nil
}

// await looks each millisecond until it is so.
func (i *installation) await(ctx context.Context, so func() (bool, error)) error {
	for {
		yes, err := so()
		if yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// send plays the role: a replica that sends until it is killed.
func send(ctx context.Context, j job, _ func(any) error) error {
	s, closeAll, err := newSender(j, prometheus.NewRegistry(), func(*sender.Config) {})
	if err != nil {
		return err
	}
	defer closeAll()
	s.Run(ctx)
	return nil
}
