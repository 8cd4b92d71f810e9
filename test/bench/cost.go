//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// spent is what a server process or PostgreSQL has used up so far.
type spent struct {
	service, postgres, broker float64 // CPU seconds.
	xids, wal                 float64 // Transaction ids; bytes of WAL.
}

// measureCost measures what single payments cost at a low and at a higher rate: CPU of all
// processes, and transaction ids and WAL of PostgreSQL.
func measureCost(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{5, 15 * time.Second}, length{3, 5 * time.Second})
	i, service, err := b.sending(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	f := figures{raw: map[string]float64{}}
	parts := map[string][]float64{}
	at := func(rate float64) (µs float64, err error) {
		one, err := b.costOf(ctx, i, service, order{
			APIKey: i.APIKey, Connections: connections, For: l.each,
			Rate: rate, Creates: 1,
		})
		for name, x := range map[string]float64{
			"cpu_µs_service": one.service * 1e6, "cpu_µs_postgres": one.postgres * 1e6,
			"cpu_µs_broker": one.broker * 1e6, "xids": one.xids, "wal_bytes": one.wal,
		} {
			key := fmt.Sprintf("at_%.0f_%s", rate, name)
			parts[key] = append(parts[key], x)
		}
		return (one.service + one.postgres + one.broker) * 1e6, err
	}
	const low, high = 200, 2000
	for range l.turns {
		slow, err := at(low)
		if err != nil {
			return nil, err
		}
		fast, err := at(high)
		if err != nil {
			return nil, err
		}
		f.work, f.baseline = append(f.work, slow), append(f.baseline, fast)
	}
	for key, each := range parts {
		f.raw[key] = median(each)
	}
	return map[string]figures{"cpu_200_vs_2000": f}, nil
}

// costOf returns what one payment of a load costs, from its POST until it is marked.
func (b *bench) costOf(ctx context.Context, i *installation, service *server, o order) (one spent, err error) {
	if err := i.checkpoint(ctx); err != nil { // Or a page's first change writes all of it to the WAL, sooner or later.
		return one, err
	}
	before, err := b.spentBy(ctx, i, service)
	if err != nil {
		return one, err
	}
	r, err := b.load(ctx, service, o)
	if err != nil {
		return one, err
	}
	waiting, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	if err := i.await(waiting, func() (bool, error) {
		var unsent bool
		err := i.sql.QueryRow(waiting, `select exists (select from payments where status = 'created')`).Scan(&unsent)
		return !unsent, err
	}); err != nil {
		return one, err
	}
	after, err := b.spentBy(ctx, i, service)
	n := float64(r.Done)
	return spent{
		service: (after.service - before.service) / n, postgres: (after.postgres - before.postgres) / n,
		broker: (after.broker - before.broker) / n,
		xids:   (after.xids - before.xids) / n, wal: (after.wal - before.wal) / n,
	}, err
}

func (b *bench) spentBy(ctx context.Context, i *installation, service *server) (s spent, err error) {
	s.service, s.postgres, s.broker = treeCPU(service.pid()), treeCPU(b.postgres), treeCPU(b.installed.BrokerPID)
	err = i.sql.QueryRow(ctx, `select pg_snapshot_xmax(pg_current_snapshot())::text::numeric::float8,
		(pg_current_wal_lsn() - '0/0'::pg_lsn)::float8`).Scan(&s.xids, &s.wal)
	return s, err
}
