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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/payment"
)

const (
	// connectTimeout bounds one attempt to connect: a database that does not answer the greeting in this time is away.
	connectTimeout = 5 * time.Second
	// tenantsMax and internedMax bound the caches: about 1 MB and, twice, 60 MB when full. A larger set only costs a look-up more.
	tenantsMax  = 10_000
	internedMax = 200_000

	// CreatesMax bounds the creates under way, findsMax the questions for one payment: what one replica does in a fraction of a second. More are answered "not now"
	// at once rather than queued without bound.
	CreatesMax = 1024
	findsMax   = 4096
	// A round of so many rows is where PostgreSQL gains little from more (facts section 5), and takes it milliseconds.
	createRoundMax = 500
	findRoundMax   = 500
)

// Store is the pool of connections and what is remembered of rows that never change. Safe for concurrent use.
type Store struct {
	pool    *pgxpool.Pool
	creates *group[payment.Payment, creation]
	finds   *group[payment.ID, *payment.Payment]
	keys    *keyring
	waker   *waker

	mu     sync.Mutex
	memory *memory // Of the database that the newest connection leads to.
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
	s := &Store{}
	if s.keys, err = newKeyring(s.askTenant); err != nil {
		return nil, err
	}
	s.creates = newGroup(createRoundMax, CreatesMax, s.createBatch)
	s.finds = newGroup(findRoundMax, findsMax, s.findBatch)
	config.AfterConnect = s.greet
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	s.waker = newWaker(s.notify)
	return s, nil
}

// Close waits for what is under way and closes all connections.
func (s *Store) Close() {
	s.creates.close()
	s.finds.close()
	s.waker.close()
	s.keys.close()
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
