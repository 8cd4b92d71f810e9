package main

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/test/harness"
)

// sessions are the backends of one replica on one node.
type sessions struct {
	pooled  int // Of the pool.
	other   int // Of owners of partitions, and of the replica's membership.
	waiting int // Of all, those that wait for a standby.
}

// watcher samples pg_stat_activity of both nodes.
type watcher struct {
	cluster *cluster

	mu      sync.Mutex
	now     [2]map[string]sessions // By node and replica.
	most    sessions               // The largest numbers of one replica on one node.
	waiting int                    // The largest number of one node.
	samples int
}

const sampleEvery = 200 * time.Millisecond

const selectSessions = `select usename, count(*) filter (where application_name = 'paylatch')::int,
		count(*) filter (where application_name <> 'paylatch')::int, count(*) filter (where wait_event = 'SyncRep')::int
	from pg_stat_activity where usename ~ '^replica' and backend_type = 'client backend' group by 1`

// run samples until ctx ends. A node that is down or frozen gives no samples.
func (w *watcher) run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	for i, n := range w.cluster.nodes {
		group.Go(func() {
			for ctx.Err() == nil {
				w.follow(ctx, i, n)
				harness.Pause(ctx, sampleEvery)
			}
		})
	}
}

// follow samples a node over one connection until that fails.
func (w *watcher) follow(ctx context.Context, i int, n *node) {
	defer w.note(i, nil)
	dial, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := n.connect(dial)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(dial) }()
	for ctx.Err() == nil {
		all, err := sample(ctx, conn)
		if err != nil {
			return
		}
		w.note(i, all)
		harness.Pause(ctx, sampleEvery)
	}
}

func sample(ctx context.Context, conn *pgx.Conn) (map[string]sessions, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := conn.Query(ctx, selectSessions)
	if err != nil {
		return nil, err
	}
	all := map[string]sessions{}
	var replica string
	var s sessions
	_, err = pgx.ForEachRow(rows, []any{&replica, &s.pooled, &s.other, &s.waiting}, func() error {
		all[replica] = s
		return nil
	})
	return all, err
}

func (w *watcher) note(i int, all map[string]sessions) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now[i] = all
	if all == nil {
		return
	}
	w.samples++
	waiting := 0
	for _, s := range all {
		w.most.pooled, w.most.other = max(w.most.pooled, s.pooled), max(w.most.other, s.other)
		waiting += s.waiting
	}
	w.waiting = max(w.waiting, waiting)
}

// reset forgets the largest numbers.
func (w *watcher) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most, w.waiting, w.samples = sessions{}, 0, 0
}

// largest returns the largest numbers since reset, and from how many samples they are.
func (w *watcher) largest() (most sessions, waiting, samples int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.most, w.waiting, w.samples
}

// on returns the replicas' sessions on a node, as last sampled.
func (w *watcher) on(node int) map[string]sessions {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.now[node])
}
