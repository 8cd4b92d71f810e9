// Package store keeps payments in PostgreSQL; it is the only room that knows SQL.
//
// It promises that what it answered is committed and survives a crash of PostgreSQL (synchronous
// commit everywhere), that a tenant's key stands for one payment however often and however
// concurrently it is used, and that a payment leaves `created` only in the same transaction that
// records its offset. It leaves to others what is valid (payment), when to emit (sender) and how
// (kafka).
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

	"github.com/paylatch/paylatch/internal/payment"
)

const (
	// connectTimeout bounds one attempt to connect: a database that does not answer the greeting in
	// this time is away.
	connectTimeout = 5 * time.Second
	// tenantsMax and internedMax bound the caches: about 1 MB and, twice, 60 MB when full. A larger
	// set only costs a look-up more.
	tenantsMax  = 10_000
	internedMax = 200_000

	// CreatesMax bounds the creates under way, findsMax the questions for one payment: what one
	// replica does in a fraction of a second. More are answered "not now" at once rather than
	// queued without bound.
	CreatesMax = 1024
	findsMax   = 4096
	// A round of so many rows is where PostgreSQL gains little from more, and takes it
	// milliseconds.
	createRoundMax = 500
	findRoundMax   = 500
)

// Store is the pool of connections and what is remembered of rows that never change. Safe for
// concurrent use.
type Store struct {
	pool *pgxpool.Pool
	// Of every connection; see connConfig.
	config  *pgx.ConnConfig
	logger  *slog.Logger
	creates *group[payment.Payment, creation]
	finds   *group[payment.ID, found]
	keys    *keyring
	waker   *waker
	commits *commits
	barrier *barrier
	refused refusals

	// Holds a token while an incarnation is checked.
	admitting chan struct{}

	mu sync.Mutex
	// Of the database that the newest connection leads to.
	memory *memory
}

// Option changes how a store is opened.
type Option func(*Store)

// WithLogger makes the store log what an operator should know about the database.
func WithLogger(logger *slog.Logger) Option { return func(s *Store) { s.logger = logger } }

// probeConnections is how many of a store's connections are outside its pool: the one over which
// slow commits are looked at.
const probeConnections = 1

// idleConnections are opened before they are needed, so that no request waits for one: a round of
// creates and one of reads may begin at once.
const idleConnections = 2

// Open returns a store on the database at url. It does not wait for the database, which may come up
// later. The store has at most connectionsMax connections, and at least two; sessions that own a
// partition, and those of operators, come on top.
func Open(ctx context.Context, url string, connectionsMax int32, options ...Option) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	s := &Store{config: config.ConnConfig, logger: slog.New(slog.DiscardHandler), admitting: make(chan struct{}, 1)}
	for _, option := range options {
		option(s)
	}
	if _, err = applySettings(config.ConnConfig.RuntimeParams); err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["application_name"] = "paylatch"
	config.MaxConns = max(connectionsMax-probeConnections, 1)
	config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
		prepareConfig(config)
		return s.refused.recent()
	}
	config.MinIdleConns = min(idleConnections, config.MaxConns)
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := s.initConn(ctx, conn); err != nil {
			return err
		}
		return warm(ctx, conn)
	}
	config.PrepareConn = s.recheck
	// See recheck.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	if s.keys, err = newKeyring(s.askTenant); err != nil {
		return nil, err
	}
	s.creates = newGroup(createRoundMax, CreatesMax, s.createBatch)
	s.finds = newGroup(findRoundMax, findsMax, s.findBatch)
	s.commits = newCommits(func(ctx context.Context) (*pgx.Conn, error) { return s.connect(ctx, nil) })
	s.barrier = &barrier{commit: s.commitMessage}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	s.waker = newWaker(s.notify)
	return s, nil
}

// Close waits for what is under way, and closes all connections. A commit that waits for a standby
// is left to the server after slowCommit.
func (s *Store) Close() {
	giveUp := time.AfterFunc(slowCommit, s.commits.close)
	defer giveUp.Stop()
	s.creates.close()
	s.finds.close()
	s.barrier.close()
	s.waker.close()
	s.keys.close()
	s.pool.Close()
	s.commits.close()
}

// refusals remembers for a moment why a connection was refused, so that a database that is not fit
// is not connected to again for each request. Safe for concurrent use.
type refusals struct {
	mu  sync.Mutex
	err error
	at  time.Time
}

// refusedFor is how long a refusal holds: ten attempts a second are enough to see it end.
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

// Ping returns nil if the database answers and this program works on it, a *DatabaseRefusedError if
// only an operator can make it fit, and another payment.ErrUnavailable if it is away.
func (s *Store) Ping(ctx context.Context) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	conn.Release()
	return nil
}

// Ready returns nil if a payment can be taken now: the database answers, is migrated, the topic is
// set up, and a commit of our own, for which a synchronous standby has vouched if there is one, has
// just been made. It returns the halted partitions, for which payments are taken, too, and kept.
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

// inTx runs work in a transaction of the pool: committed if it returns nil, rolled back otherwise.
// errUnconfirmed when no synchronous standby has vouched for the commit.
func (s *Store) inTx(ctx context.Context, work func(pgx.Tx) error) error {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	defer pooled.Release()
	return confirmed(pooled.Conn(), func() error { return pgx.BeginFunc(ctx, pooled.Conn(), work) })
}

// write executes one statement in a transaction of its own; it is for operators' commands.
func (s *Store) write(ctx context.Context, sql string, args ...any) (rows int64, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, args...)
		rows = tag.RowsAffected()
		return err
	})
	return rows, err
}
