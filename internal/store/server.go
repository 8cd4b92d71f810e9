package store

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"

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
	// selectSequence reads how payments_seq gives numbers. The catalog is open to all roles.
	selectSequence = `select seqcache, seqincrement, seqcycle from pg_sequence
		where seqrelid = 'payments_seq'::regclass`
	// selectIsDistributed detects Citus. A table that is spread over several servers has no working
	// advisory locks and no ordered sequence.
	selectIsDistributed = `select to_regclass('pg_catalog.pg_dist_partition') is not null`
)

// otherProducts are servers whose version() begins as that of PostgreSQL does, and that are not
// PostgreSQL. Their names come from their documentation.
var otherProducts = []string{
	"-YB-", "YugabyteDB", "CockroachDB", "Redshift", "Greenplum", "Materialize", "RisingWave", "QuestDB", "CrateDB",
}

// isPostgres reports whether version() is that of PostgreSQL, or of a service that runs it.
func isPostgres(product string) bool {
	return strings.HasPrefix(product, "PostgreSQL ") &&
		!slices.ContainsFunc(otherProducts, func(name string) bool { return strings.Contains(product, name) })
}

// checkSequence refuses a sequence whose numbers do not grow over all sessions. The order of a
// sender account's payments is that of these numbers.
func checkSequence(ctx context.Context, conn *pgx.Conn) error {
	var cache, increment int64
	var cycles bool
	if err := conn.QueryRow(ctx, selectSequence).Scan(&cache, &increment, &cycles); err != nil {
		return translate(err)
	}
	if cache != 1 || increment < 1 || cycles {
		return refuseDatabase("the sequence payments_seq has cache %d, increment %d, cycle %t, and payments would "+
			"lose their order: alter sequence payments_seq cache 1 increment 1 no cycle", cache, increment, cycles)
	}
	return nil
}

// checkServer tests by two sessions what this program relies on: advisory locks exclude each other,
// and the numbers of a sequence only grow. Some servers that speak PostgreSQL's protocol do
// neither, without an error (CockroachDB, YugabyteDB).
func checkServer(ctx context.Context, a, b *pgx.Conn) error {
	if err := checkSequence(ctx, a); err != nil {
		return err
	}
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
	if err := drawNumbers(ctx, a, b); err != nil {
		return err
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

// drawNumbers draws a number in one session, in the other, and again in the first. It refuses a
// server that caches them in spite of checkSequence.
func drawNumbers(ctx context.Context, a, b *pgx.Conn) error {
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
