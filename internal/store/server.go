package store

import (
	"context"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

const (
	// lockClassProbe is the class of the advisory locks with which checkServer tests a server.
	lockClassProbe = 1_886_413_926
	// lockClassMigrate is held while the version table is prepared.
	lockClassMigrate = 1_886_413_927
)

const (
	tryProbeLock = `select pg_try_advisory_lock($1, $2)`
	drawNumber   = `select nextval('payments_seq')`
	// selectIsDistributed detects Citus. A table that is spread over several servers has no working
	// advisory locks and no ordered sequence.
	selectIsDistributed = `select to_regclass('pg_catalog.pg_dist_partition') is not null`
)

// checkServer tests by two sessions what this program relies on: advisory locks exclude each other,
// and the numbers of a sequence only grow. Some servers that speak PostgreSQL's protocol do
// neither, without an error (CockroachDB, YugabyteDB).
func checkServer(ctx context.Context, a, b *pgx.Conn) error {
	object := rand.Int32()
	var first, second bool
	if err := a.QueryRow(ctx, tryProbeLock, lockClassProbe, object).Scan(&first); err != nil {
		return translate(err)
	}
	if err := b.QueryRow(ctx, tryProbeLock, lockClassProbe, object).Scan(&second); err != nil {
		return translate(err)
	}
	if first && second {
		return refuseDatabase("two sessions hold one advisory lock: it is not PostgreSQL")
	}
	var last int64
	for _, session := range []*pgx.Conn{a, b, a} {
		var number int64
		if err := session.QueryRow(ctx, drawNumber).Scan(&number); err != nil {
			return translate(err)
		}
		if number <= last {
			return refuseDatabase("a sequence gave %d after %d: it is not PostgreSQL, or payments_seq has a cache",
				number, last)
		}
		last = number
	}
	var distributed bool
	if err := a.QueryRow(ctx, selectIsDistributed).Scan(&distributed); err != nil {
		return translate(err)
	}
	if distributed {
		return refuseDatabase("the extension citus is installed in it: use a database without it")
	}
	return nil
}

// admit checks an incarnation of the database that is new to this process, before anything is read
// or stored there. It checks one connection at a time; the others wait. It returns the
// incarnation's cache.
func (s *Store) admit(ctx context.Context, conn *pgx.Conn, incarnation string) (*cache, error) {
	select {
	case s.admitting <- struct{}{}:
		defer func() { <-s.admitting }()
	case <-ctx.Done():
		return nil, translate(ctx.Err())
	}
	if s.knows(incarnation) {
		return s.cacheFor(incarnation)
	}
	second, err := pgx.ConnectConfig(ctx, s.connConfig(nil))
	if err != nil {
		return nil, translate(err)
	}
	defer closeConn(second)
	if err := checkServer(ctx, conn, second); err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `select pg_advisory_unlock_all()`); err != nil {
		return nil, translate(err)
	}
	if err := s.advanceSequences(ctx, conn); err != nil {
		return nil, err
	}
	return s.cacheFor(incarnation)
}
