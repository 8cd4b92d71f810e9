// Package store keeps payments in PostgreSQL; it is the only room that knows SQL.
//
// It promises that what it answered is committed and survives a crash of PostgreSQL (synchronous commit everywhere), that a tenant's key
// stands for one payment however often and however concurrently it is used, and that a payment leaves `created` only in the same
// transaction that records its offset. It leaves to others what is valid (payment), when to emit (sender) and how (kafka).
package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/payment"
)

const (
	// connectTimeout bounds one attempt to connect: a database that does not answer the greeting in this time is away.
	connectTimeout = 5 * time.Second
	// tenantsMax and internedMax bound the caches: about 1 MB and, twice, 30 MB when full. A larger set only costs a look-up more.
	tenantsMax  = 10_000
	internedMax = 200_000
)

// Store is the pool of connections and what is remembered of rows that never change. Safe for concurrent use.
type Store struct {
	pool     *pgxpool.Pool
	parties  *interner
	accounts *interner
	tenants  *lru.Cache[payment.APIKeyHash, tenantEntry]
	topic    topicCache
	waker    *waker

	mu          sync.Mutex
	incarnation string // Of the database that all of the above is remembered of.
}

// Open prepares a store on the database at url; it does not wait for the database, which may come up later. connectionsMax bounds the pool.
func Open(ctx context.Context, url string, connectionsMax int32) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	config.MaxConns = connectionsMax
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.RuntimeParams["application_name"] = "paylatch"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	tenants, err := lru.New[payment.APIKeyHash, tenantEntry](tenantsMax)
	if err != nil {
		return nil, fmt.Errorf("tenant cache: %w", err)
	}
	parties, err := newInterner(selectParties, insertParties)
	if err != nil {
		return nil, err
	}
	accounts, err := newInterner(selectAccounts, insertAccounts)
	if err != nil {
		return nil, err
	}
	s := &Store{parties: parties, accounts: accounts, tenants: tenants}
	config.AfterConnect = s.afterConnect
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	s.waker = newWaker(s.notify)
	return s, nil
}

// A commit that is acknowledged before it is on disk would let a 202, or a mark, vanish in a crash. A stricter setting stays as it is.
const setSynchronousCommit = `select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local')`

// commitSynchronously makes sure, on each new connection, that commits are durable, whatever server, role or database say.
func commitSynchronously(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, setSynchronousCommit)
	return err
}

// The server's start and the database's oid: a restart, a fail-over, a restore, and a database made anew all change it.
const selectIncarnation = `select pg_postmaster_start_time()::text || ' ' || oid from pg_database where datname = current_database()`

// afterConnect prepares a new connection. When it leads to another incarnation of the database, everything that is remembered is forgotten: rows may be gone, and
// ids given anew. The connections of the old one are dead.
func (s *Store) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	if err := commitSynchronously(ctx, conn); err != nil {
		return err
	}
	var incarnation string
	if err := conn.QueryRow(ctx, selectIncarnation).Scan(&incarnation); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.incarnation != incarnation {
		s.incarnation = incarnation
		s.parties.forget()
		s.accounts.forget()
		s.tenants.Purge()
		s.topic.known.Store(nil)
	}
	return nil
}

// Close waits for what is under way and closes all connections.
func (s *Store) Close() {
	s.waker.close()
	s.pool.Close()
}

const selectReady = `select count(*), coalesce(array_agg(partition::integer order by partition) filter (where state = 'halted'), '{}') from topic_partitions`

// Ready tells whether payments can be taken: the database answers, is migrated, and the topic is set up. Payments are taken for halted partitions, too, and kept.
func (s *Store) Ready(ctx context.Context) (halted []int32, err error) {
	var partitions int
	if err := s.pool.QueryRow(ctx, selectReady).Scan(&partitions, &halted); err != nil {
		return nil, translate(err)
	}
	if partitions == 0 {
		return nil, errNoTopic
	}
	return halted, nil
}

// inTx runs work in a transaction of the pool: committed when it returns nil, rolled back otherwise.
func (s *Store) inTx(ctx context.Context, work func(pgx.Tx) error) error {
	return translate(pgx.BeginFunc(ctx, s.pool, work))
}
