// Package store keeps payments in PostgreSQL. It is the only package that contains SQL.
//
// What it reports is committed and survives a crash of PostgreSQL: all commits are synchronous. A
// tenant's idempotency key stands for one payment, however often and however concurrently it is
// used. A payment leaves `created` only in the transaction that records its offset. The other
// packages decide what is valid (payment), when to publish (sender) and how (kafka).
//
// Errors: payment.ErrUnavailable means that the same call may succeed later. If a statement that
// writes was in progress, its outcome is unknown. A call whose context was cancelled returns
// context.Canceled. Each function documents its other sentinels. Any other error is a defect, of
// this program or of the data. See translate.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/batch"
	"github.com/paylatch/paylatch/internal/keycache"
	"github.com/paylatch/paylatch/internal/notify"
	"github.com/paylatch/paylatch/internal/payment"
)

const (
	// connectTimeout bounds one attempt to connect. A server that does not respond to the startup
	// message in this time counts as unavailable.
	connectTimeout = 5 * time.Second
	// tenantsMax bounds the caches of tenants and of API keys: about 1 MB when full. A tenant
	// beyond it only costs a query.
	tenantsMax = 10_000

	// stepTimeout bounds each step of a batch that does not commit. A commit has no such bound: see
	// commitOn.
	stepTimeout = 5 * time.Second

	// CreatesMax bounds the creates that wait or are processed in one replica, which does that many
	// in a fraction of a second. More get payment.ErrUnavailable at once.
	CreatesMax = 1024
	// findsMax bounds the lookups of single payments in the same way.
	findsMax = 4096
	// createBatchMax and findBatchMax bound the rows of one statement. PostgreSQL gains little from
	// more, and a statement of this size still takes milliseconds.
	createBatchMax = 500
	findBatchMax   = 500
)

// Store is a pool of connections and a cache of rows that never change. Safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	// config is copied for every connection; see connConfig.
	config   *pgx.ConnConfig
	access   *access
	logger   *slog.Logger
	creates  *batch.Batcher[payment.Payment, creation]
	finds    *batch.Batcher[payment.ID, found]
	keys     *keycache.Cache
	lastUse  *lastUse
	notifier *notify.Notifier
	commits  *commits
	barrier  *barrier
	refused  refusals
	rotation rotation

	// admitting holds a token while an incarnation is checked; see admit.
	admitting chan struct{}

	mu sync.Mutex
	// cache belongs to the database that the newest connection leads to.
	cache *cache
}

// Option changes how a store is opened, or how a migration connects.
type Option func(*options)

type options struct {
	logger *slog.Logger
	access Access
}

// WithLogger makes the store log what an operator should know about the database.
func WithLogger(logger *slog.Logger) Option { return func(o *options) { o.logger = logger } }

// WithAccess lets what new connections need to get in change.
func WithAccess(access Access) Option { return func(o *options) { o.access = access } }

func optionsOf(given []Option) options {
	o := options{logger: slog.New(slog.DiscardHandler)}
	for _, option := range given {
		option(&o)
	}
	return o
}

// probeConnections is how many connections a store has outside its pool. One checks slow commits.
const probeConnections = 1

// idleConnections are opened before they are needed, so that no request waits for one. A batch of
// creates and one of lookups may start at once.
const idleConnections = 2

// Open returns a store on the database at url. It does not wait for the database, which may come up
// later.
//
// The store has at most connectionsMax connections in this process, and at least two. The sessions
// of partition owners and of operators are not included.
func Open(ctx context.Context, url string, connectionsMax int32, options ...Option) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	o := optionsOf(options)
	s := &Store{config: config.ConnConfig, logger: o.logger, admitting: make(chan struct{}, 1)}
	s.access, err = newAccess(url, o.access, o.logger)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if _, err := applySettings(config.ConnConfig.RuntimeParams); err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["application_name"] = "paylatch"
	config.MaxConns = max(connectionsMax-probeConnections, 1)
	config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
		prepareConfig(config, s.access)
		return s.refused.recent()
	}
	config.MinIdleConns = min(idleConnections, config.MaxConns)
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		s.rotation.accepted()
		if err := s.initConn(ctx, conn); err != nil {
			return err
		}
		return warm(ctx, conn)
	}
	config.PrepareConn = s.recheck
	// recheck does it.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	s.keys, err = keycache.New(tenantsMax, s.lookUpKeys)
	if err != nil {
		return nil, err
	}
	s.creates = batch.New(createBatchMax, CreatesMax, s.createBatch)
	s.finds = batch.New(findBatchMax, findsMax, s.findBatch)
	s.commits = newCommits(func(ctx context.Context) (*pgx.Conn, error) { return s.connect(ctx, nil) })
	s.barrier = &barrier{commit: s.commitMessage}
	s.pool, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	s.notifier = notify.New(s.notify)
	s.lastUse = newLastUse(s.keys.Used, s.recordLastUse)
	return s, nil
}

// Close waits for the requests in progress and closes all connections. After slowCommit it no
// longer waits for a commit whose standby is away. PostgreSQL finishes that commit.
func (s *Store) Close() {
	slow := time.AfterFunc(slowCommit, s.commits.close)
	defer slow.Stop()
	s.creates.Close()
	s.finds.Close()
	s.barrier.close()
	s.notifier.Close()
	s.keys.Close()
	s.lastUse.close()
	s.pool.Close()
	s.commits.close()
}

// refusals remembers for a moment why a connection was refused. Requests then do not connect again
// and again to a database that an operator must fix. Safe for concurrent use.
type refusals struct {
	mu  sync.Mutex
	err error
	at  time.Time
}

// refusedFor is how long a refusal is remembered. Ten attempts a second are enough to notice its
// end.
const refusedFor = 100 * time.Millisecond

func (r *refusals) note(err error) {
	if !IsRefused(err) && !errors.Is(err, errNotMigrated) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.at = err, time.Now()
}

func (r *refusals) recent() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) < refusedFor {
		return r.err
	}
	return nil
}

const selectReady = `select count(*), coalesce(array_agg(partition::integer
	order by partition) filter (where state = 'halted'), '{}') from topic_partitions`

// Ping returns nil if the database responds and this program works on it. It returns a
// *DatabaseRefusedError if an operator must act, and another payment.ErrUnavailable if the database
// does not respond.
func (s *Store) Ping(ctx context.Context) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	conn.Release()
	return nil
}

// Ready returns nil if a payment can be taken now: the database responds, its schema is current,
// the topic is set up, and a commit of our own has just succeeded, on the synchronous standby, too,
// if there is one.
//
// It returns the halted partitions. Payments for them are taken and kept.
func (s *Store) Ready(ctx context.Context) (halted []int32, err error) {
	var partitions int
	if err := s.pool.QueryRow(ctx, selectReady).Scan(&partitions, &halted); err != nil {
		return nil, translate(err)
	}
	if partitions == 0 {
		return nil, errNoTopic
	}
	if _, err := s.barrier.wait(ctx); err != nil {
		return nil, err
	}
	return halted, nil
}

// inTx runs work in a transaction of the pool. It commits if work returns nil, and rolls back
// otherwise. It returns errUnconfirmed if the synchronous standby has not confirmed the commit.
func (s *Store) inTx(ctx context.Context, work func(pgx.Tx) error) error {
	pooled, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer pooled.Release()
	return confirmed(pooled.Conn(), func() error { return pgx.BeginFunc(ctx, pooled.Conn(), work) })
}
