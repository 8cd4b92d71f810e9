//go:build linux

package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// largeCount is how many payments the large table has.
func largeCount(short bool) int64 {
	if short {
		return 1_000_000
	}
	return 50_000_000
}

const (
	// largeBuffers are shared_buffers for the large table in memory. The table and its primary key
	// take 9 GB. With huge pages (vm.nr_hugepages = 5400) a status query takes two thirds of the
	// time: see docs/sizing.md. PostgreSQL uses them if there are enough.
	largeBuffers = "10GB"
	// coldBuffers are shared_buffers where memory is short; the limit must hold them and more.
	coldBuffers = "128MB"
	// memoryAll is more than the large table's server needs.
	memoryAll = 16 << 30
	// coldLeast is what the server needs next to the index: buffers, sessions, WAL.
	coldLeast = 320 << 20
)

// large is an installation with many stored payments, half of them under random ids, and another
// one with few. Each has a service of its own.
type large struct {
	b          *bench
	many, few  *installation
	count      int64
	each       time.Duration
	turns      int
	indexBytes int64
}

// measureLarge compares creates and reads at many stored payments with those at few, while the
// primary key is in memory, and then creates with memory for a quarter of it.
func measureLarge(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{5, 8 * time.Second}, length{3, 3 * time.Second})
	defer func() {
		err = errors.Join(err, b.setBuffers(context.WithoutCancel(ctx), parts.Buffers)) // The other lines have these.
	}()
	if err := b.setBuffers(ctx, largeBuffers); err != nil {
		return nil, err
	}
	g := &large{b: b, count: largeCount(short), each: l.each, turns: l.turns}
	g.many, err = b.largeTable(ctx, g.count)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.many.drop(ctx)) }()
	const few = 100_000
	g.few, err = b.withStored(ctx, few)
	if err != nil {
		return nil, err
	}
	err = g.many.sql.QueryRow(ctx, `select pg_relation_size('payments_id_is_unique')`).Scan(&g.indexBytes)
	if err != nil {
		return nil, err
	}
	lines, err := g.inMemory(ctx, few)
	if err != nil {
		return nil, err
	}
	cold, err := g.outOfMemory(ctx)
	for key, f := range cold {
		lines[key] = f
	}
	return lines, err
}

// setBuffers restarts PostgreSQL with other shared_buffers.
func (b *bench) setBuffers(ctx context.Context, size string) (err error) {
	restarting, cancel := context.WithTimeout(ctx, 2*time.Minute) // Gigabytes of buffers are written first.
	defer cancel()
	if err := b.installed.Reconfigure(restarting, map[string]string{"shared_buffers": size}); err != nil {
		return err
	}
	b.postgres, err = serverProcess(ctx, b.installed.Postgres)
	return err
}

// largeTable stores n sent payments, half of them under random ids. The primary key is created
// afterwards, as a restore of a dump does: random inserts into it would take hours.
func (b *bench) largeTable(ctx context.Context, n int64) (*installation, error) {
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return nil, err
	}
	i.mixed = true
	for _, sql := range []string{
		`alter table payments drop constraint payments_id_is_unique`,
		`alter table payments set (autovacuum_enabled = off)`,
		// No lookup of parties and accounts for each row.
		`alter database ` + i.Name + ` set session_replication_role = replica`,
	} {
		if _, err := i.sql.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	i.sql.Reset()
	var filling errgroup.Group
	filling.Go(func() error { return i.store(ctx, 1, n/2, true, partitions) })
	filling.Go(func() error { return i.store(ctx, n/2+1, n, true, partitions) })
	if err := filling.Wait(); err != nil {
		return nil, err
	}
	for _, sql := range []string{
		`alter database ` + i.Name + ` reset session_replication_role`,
		// One worker: a parallel one needs more shared memory than a container has by default.
		`set maintenance_work_mem = '2GB'; set max_parallel_maintenance_workers = 0;
			alter table payments add constraint payments_id_is_unique primary key (id)`,
		`alter table payments reset (autovacuum_enabled)`,
		`vacuum (analyze, freeze) payments`,
		`checkpoint`,
	} {
		if _, err := i.sql.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	i.sql.Reset()
	return i, nil
}

// prewarm reads the large table and its primary key into shared_buffers, as they are after a day of
// random queries.
func (g *large) prewarm(ctx context.Context) error {
	_, err := g.many.sql.Exec(ctx, `create extension if not exists pg_prewarm;
		select pg_prewarm('payments'), pg_prewarm('payments_id_is_unique')`)
	return err
}

func (g *large) inMemory(ctx context.Context, few int64) (_ map[string]figures, err error) {
	if err := g.prewarm(ctx); err != nil {
		return nil, err
	}
	var contenders []contender
	for _, c := range []struct {
		name   string
		i      *installation
		stored int64
	}{{"many", g.many, g.count}, {"few", g.few, few}} {
		service, err := g.b.startService(ctx, "api", c.i)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, service.end()) }()
		creates, reads := g.orders(c.i, c.stored)
		if err := g.warmUp(ctx, service, creates, reads); err != nil {
			return nil, err
		}
		contenders = append(contenders,
			contender{"create " + c.name, func(ctx context.Context) (result, error) {
				return g.b.afterCheckpoint(ctx, c.i, service, creates)
			}},
			contender{"status " + c.name, func(ctx context.Context) (result, error) {
				return g.b.load(ctx, service, reads)
			}})
	}
	turns, err := alternate(ctx, g.turns, contenders[0], contenders[2], contenders[1], contenders[3])
	if err != nil {
		return nil, err
	}
	hugePages, err := g.hugePages(ctx)
	if err != nil {
		return nil, err
	}
	lines := map[string]figures{}
	for _, what := range []string{"create", "status"} {
		f := turns.figures(what+" many", what+" few", result.rate)
		turns.perRequest(what+" many", f.raw)
		turns.perRequest(what+" few", f.raw)
		f.raw["index_mb"], f.raw["huge_pages"] = float64(g.indexBytes)/1e6, hugePages
		lines[what+"_50m_vs_100k"] = f
	}
	return lines, nil
}

// hugePages returns 1 if the server's shared_buffers are in huge pages, and otherwise 0.
func (g *large) hugePages(ctx context.Context) (n float64, err error) {
	err = g.many.sql.QueryRow(ctx, `select (current_setting('huge_pages_status') = 'on')::int`).Scan(&n)
	return n, err
}

func (g *large) orders(i *installation, stored int64) (creates, reads order) {
	creates = order{APIKey: i.APIKey, Connections: connections, For: g.each, Creates: 1}
	reads = order{APIKey: i.APIKey, Connections: connections, For: g.each, Reads: 1, Stored: stored, Mixed: i.mixed}
	return creates, reads
}

// warmUp lets the service see all parties and accounts, and has PostgreSQL read what it will need.
func (g *large) warmUp(ctx context.Context, service *server, creates, reads order) error {
	creates.For, creates.Count = 0, people
	if _, err := g.b.load(ctx, service, creates); err != nil {
		return err
	}
	_, err := g.b.load(ctx, service, reads)
	return err
}

// outOfMemory limits the server's memory to a quarter of the primary key, the page cache included,
// for each second turn.
func (g *large) outOfMemory(ctx context.Context) (_ map[string]figures, err error) {
	if err := g.b.setBuffers(ctx, coldBuffers); err != nil {
		return nil, err
	}
	service, err := g.b.startService(ctx, "api", g.many)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	v7, reads := g.orders(g.many, g.count)
	v4 := v7
	v4.RandomKeys = true
	if err := g.warmUp(ctx, service, v7, reads); err != nil {
		return nil, err
	}
	limit := max(g.indexBytes/4, coldLeast)
	turn := func(o order, bytes int64) func(context.Context) (result, error) {
		return func(ctx context.Context) (r result, err error) {
			if err := g.setMemory(ctx, bytes); err != nil {
				return r, err
			}
			return g.b.afterCheckpoint(ctx, g.many, service, o)
		}
	}
	turns, err := alternate(ctx, g.turns,
		contender{"cold v7", turn(v7, limit)}, contender{"cold v4", turn(v4, limit)},
		contender{"cold status", turn(reads, limit)},
		contender{"warm v7", turn(v7, memoryAll)}, contender{"warm v4", turn(v4, memoryAll)},
		contender{"warm status", turn(reads, memoryAll)})
	err = errors.Join(err, g.b.installed.LimitMemory(context.WithoutCancel(ctx), memoryAll))
	if err != nil {
		return nil, err
	}
	lines := map[string]figures{}
	names := map[string]string{"create_50m_cold": "v7", "create_50m_cold_random": "v4", "status_50m_cold": "status"}
	for key, name := range names {
		f := turns.figures("cold "+name, "warm "+name, result.rate)
		f.raw["limit_mb"] = float64(limit) / 1e6
		turns.latencies("cold "+name, f.raw)
		turns.latencies("warm "+name, f.raw)
		lines[key] = f
	}
	return lines, nil
}

// setMemory changes the limit. With memory for all, the index is read into it again.
func (g *large) setMemory(ctx context.Context, bytes int64) error {
	if err := g.b.installed.LimitMemory(ctx, bytes); err != nil {
		return err
	}
	if bytes < memoryAll {
		return nil
	}
	_, err := g.many.sql.Exec(ctx, `select pg_prewarm('payments_id_is_unique', 'read')`)
	return err
}
