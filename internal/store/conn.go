package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/migrations"
)

// DatabaseRefusedError says why this program does not work on the database: an operator must change
// the database or its URL. It is a payment.ErrUnavailable for requests.
type DatabaseRefusedError struct{ Reason string }

func (e *DatabaseRefusedError) Error() string { return "the database is refused: " + e.Reason }

// Is makes the error a payment.ErrUnavailable.
func (e *DatabaseRefusedError) Is(target error) bool { return target == payment.ErrUnavailable }

func refuseDatabase(format string, args ...any) error {
	return &DatabaseRefusedError{fmt.Sprintf(format, args...)}
}

// connState is what the store knows of one connection. The goroutine that uses the connection owns
// it.
type connState struct {
	incarnation string
	cache       *cache
	commits     *commits
	// A warning has arrived since the last commit began.
	warned bool
	// When identify last confirmed the connection.
	checked time.Time
}

// stateKey is where a connection keeps its connState.
const stateKey = "paylatch state"

// stateOf returns the state of a connection that initConn has prepared.
func stateOf(conn *pgx.Conn) *connState {
	return conn.PgConn().CustomData()[stateKey].(*connState)
}

// cacheOf returns what is remembered of the database behind a connection.
func cacheOf(conn *pgx.Conn) *cache { return stateOf(conn).cache }

// connConfig returns the configuration of one connection; more overrides connectionSettings.
func (s *Store) connConfig(more map[string]string) *pgx.ConnConfig {
	config := s.config.Copy()
	for name, value := range more {
		config.RuntimeParams[name] = value
	}
	prepareConfig(config)
	return config
}

// prepareConfig sets what every connection of this program has in common. The configuration must
// not be used for a second connection.
func prepareConfig(config *pgx.ConnConfig) {
	config.ConnectTimeout = connectTimeout
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	config.OnNotice = noteWarning
	closeOnFatal := config.OnPgError
	config.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		return closeOnFatal(conn, err) && !sessionFault(err.Code)
	}
	guard(&config.Config)
}

// connect opens a connection outside the pool and prepares it; more overrides connectionSettings.
func (s *Store) connect(ctx context.Context, more map[string]string) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, s.connConfig(more))
	if err != nil {
		return nil, translate(err)
	}
	if err := s.initConn(ctx, conn); err != nil {
		closeConn(conn)
		return nil, err
	}
	return conn, nil
}

// identity is what a session says of itself and of the database that it is in.
type identity struct {
	// The server process.
	backend uint32
	// Another one after each restart, failover and restore.
	incarnation string
	// Of the database.
	encoding string
	// Of the server, as server_version_num.
	version int32
	// session_replication_role.
	role     string
	migrated bool
}

// The start of the server, the oid of the database, and the oids of the tables whose ids are cached
// name the incarnation: a restart, a failover, a restore, and a database or table that was created
// again all change it.
//
// A commit that is acknowledged before it is on disk would let a 202, or a mark, vanish in a crash.
// A setting that is stricter than `on` stays as it is. transaction_timeout exists from version 17
// on.
const selectIdentity = `select pg_backend_pid(), pg_postmaster_start_time()::text || ' ' || d.oid ||
			coalesce(' ' || to_regclass('parties')::oid, '') || coalesce(' ' || to_regclass('accounts')::oid, ''),
		pg_encoding_to_char(d.encoding), current_setting('server_version_num')::integer,
		current_setting('session_replication_role'), to_regclass('schema_version') is not null,
		case when current_setting('synchronous_commit') in ('off', 'local')
		then set_config('synchronous_commit', 'on', false) end,
		case when current_setting('server_version_num')::integer >= 170000
		then set_config('transaction_timeout', '0', false) end
	from pg_database d where d.datname = current_database()`

func identify(ctx context.Context, conn *pgx.Conn) (i identity, err error) {
	var backend int32
	// Without a prepared statement, of which a pooler may know nothing, or another one.
	err = conn.QueryRow(ctx, selectIdentity, pgx.QueryExecModeExec).Scan(&backend, &i.incarnation, &i.encoding,
		&i.version, &i.role, &i.migrated, nil, nil)
	i.backend = uint32(backend) //nolint:gosec // G115: a process id is positive.
	return i, translate(err)
}

const (
	// versionMin is the oldest PostgreSQL that knows all of connectionSettings.
	versionMin = 150000
	// A second statement, and so a second transaction: a pooler may have another server process for
	// it.
	selectSchemaVersion = `select pg_backend_pid(), version from schema_version`
)

// checkPooler returns an error if another server process serves the connection than the one whose
// key came with it: then a pooler stands in between, and nothing that belongs to a session holds.
func checkPooler(conn *pgx.Conn, backend uint32) error {
	if key := conn.PgConn().PID(); key != backend {
		return refuseDatabase("a connection pooler stands before it "+
			"(the connection has the key of process %d, and process %d serves it): "+
			"let the URL name PostgreSQL itself", key, backend)
	}
	return nil
}

// check returns an error if this program must not work on the database.
func (i identity) check(conn *pgx.Conn) error {
	switch {
	case i.version < versionMin:
		return refuseDatabase("PostgreSQL 15 or newer is needed; server_version_num is %d", i.version)
	case i.encoding != "UTF8":
		return refuseDatabase("its encoding is %s, and text would be changed: create a database with encoding UTF8",
			i.encoding)
	case i.role != "origin":
		return refuseDatabase("session_replication_role is %s, so that triggers do not fire: reset it for the role",
			i.role)
	}
	return checkPooler(conn, i.backend)
}

// checkSchema returns an error unless this program works with the schema's version: its own one, or
// the next one, since a migration lets the version before it run on.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	var backend, version int32
	if err := conn.QueryRow(ctx, selectSchemaVersion, pgx.QueryExecModeExec).Scan(&backend, &version); err != nil {
		return translate(err)
	}
	latest := migrations.Latest()
	switch {
	case version < latest:
		return fmt.Errorf("%w: it is version %d, version %d is needed", errNotMigrated, version, latest)
	case version > latest+1:
		return refuseDatabase("its schema is version %d; this program knows version %d and runs on %d: "+
			"use a newer paylatch", version, latest, latest+1)
	}
	return checkPooler(conn, uint32(backend)) //nolint:gosec // G115: a process id is positive.
}

// initConn checks a new connection and gives it the memory of the database that it leads to. When
// that is another incarnation than before, nothing of it is remembered: rows may be gone, and ids
// given to other rows. Connections to the former one are closed.
func (s *Store) initConn(ctx context.Context, conn *pgx.Conn) error {
	i, err := identify(ctx, conn)
	if err == nil {
		err = i.check(conn)
	}
	if err == nil && !i.migrated {
		err = errNotMigrated
	}
	if err == nil {
		err = checkSchema(ctx, conn)
	}
	var cache *cache
	if err == nil {
		cache, err = s.admit(ctx, conn, i.incarnation)
	}
	if err != nil {
		s.refused.note(err)
		return err
	}
	conn.PgConn().CustomData()[stateKey] = &connState{
		incarnation: i.incarnation, cache: cache, commits: s.commits, checked: time.Now(),
	}
	return nil
}

const (
	// checkEvery is how often a connection in use is asked whether it still is what it was: a
	// pooler that hands on the key of a server process, and tables that were restored in place, are
	// seen then.
	checkEvery = time.Second
	// checkTimeout bounds that query. It costs one when the server is frozen.
	checkTimeout = 2 * time.Second
)

// recheck implements pgxpool's PrepareConn: it reports whether the connection may be used.
func (s *Store) recheck(ctx context.Context, conn *pgx.Conn) (ok bool, err error) {
	state := stateOf(conn)
	if time.Since(state.checked) < checkEvery {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	i, err := identify(ctx, conn)
	if err != nil {
		// Only this one: on a busy machine all others would be opened again at once.
		return false, nil
	}
	if i.incarnation != state.incarnation {
		s.pool.Reset() // The others are no better.
		return false, nil
	}
	if err := checkPooler(conn, i.backend); err != nil {
		return false, err
	}
	state.checked = time.Now()
	return true, nil
}

// noteWarning implements pgconn.NoticeHandler. PostgreSQL reports a commit whose wait for the
// standby was cancelled as a success, with a warning: 01000 (cancelled) or 57P01 (terminated). Its
// text is in the server's language; severity and code are not.
func noteWarning(conn *pgconn.PgConn, notice *pgconn.Notice) {
	state, ok := conn.CustomData()[stateKey].(*connState)
	if ok && notice.SeverityUnlocalized == "WARNING" &&
		(notice.Code == "01000" || strings.HasPrefix(notice.Code, "57")) {
		state.warned = true
	}
}

// refusedByPooler turns the error of a pooler that refuses our startup parameters into a sentence.
// PostgreSQL knows all of them, and has another code for one that it does not know (42704).
func refusedByPooler(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "08P01" {
		return refuseDatabase("a connection pooler stands before it (%s): let the URL name PostgreSQL itself",
			pg.Message)
	}
	return err
}

// IsRefused reports whether only an operator can make the database fit.
func IsRefused(err error) bool {
	_, ok := errors.AsType[*DatabaseRefusedError](err)
	return ok
}
