package store

import (
	"context"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// lockClassProbe is of the advisory locks by which checkServer tries a server, and lockClassMigrate
// of the one that is held while the version table is prepared.
const (
	lockClassProbe   = 1_886_413_926
	lockClassMigrate = 1_886_413_927
)

const (
	tryProbeLock = `select pg_try_advisory_lock($1, $2)`
	drawNumber   = `select nextval('payments_seq')`
	// Citus: a table that is spread over several servers has neither.
	selectIsDistributed = `select to_regclass('pg_catalog.pg_dist_partition') is not null`
)

// checkServer tries what this program rests on, by two sessions: advisory locks exclude each other,
// and numbers of a sequence only grow. Some servers that speak PostgreSQL's protocol have neither,
// and say nothing (CockroachDB, YugabyteDB).
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

// admit checks an incarnation of the database that this process does not know yet, before anything
// is read or stored there; one connection at a time, the others wait.
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
