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

// DatabaseRefusedError means that this program does not work on the database. An operator must
// change the database or its URL. For requests it is a payment.ErrUnavailable.
type DatabaseRefusedError struct{ Reason string }

func (e *DatabaseRefusedError) Error() string { return "the database is refused: " + e.Reason }

// Is makes the error a payment.ErrUnavailable.
func (e *DatabaseRefusedError) Is(target error) bool { return target == payment.ErrUnavailable }

func refuseDatabase(format string, args ...any) error {
	return &DatabaseRefusedError{fmt.Sprintf(format, args...)}
}

// connState is the state of one connection. The goroutine that uses the connection owns it.
type connState struct {
	incarnation string
	cache       *cache
	commits     *commits
	// warned is set by a warning that has arrived since the last commit began.
	warned bool
	// checked is when identify last confirmed the connection.
	checked time.Time
}

// stateKey is the key of a connState in the custom data of its connection.
const stateKey = "paylatch state"

// stateOf returns the state of a connection that initConn has prepared.
func stateOf(conn *pgx.Conn) *connState {
	return conn.PgConn().CustomData()[stateKey].(*connState)
}

// cacheOf returns the cache of the database that a connection leads to.
func cacheOf(conn *pgx.Conn) *cache { return stateOf(conn).cache }

// connConfig returns the configuration of one connection. The parameters in more override
// connectionSettings.
func (s *Store) connConfig(more map[string]string) *pgx.ConnConfig {
	config := s.config.Copy()
	for name, value := range more {
		config.RuntimeParams[name] = value
	}
	prepareConfig(config, s.access)
	return config
}

// prepareConfig sets what all connections of this program have in common. The configuration must
// not be used for a second connection.
func prepareConfig(config *pgx.ConnConfig, access *access) {
	access.apply(config)
	config.ConnectTimeout = connectTimeout
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	config.OnNotice = noteWarning
	closeOnFatal := config.OnPgError
	config.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		return closeOnFatal(conn, err) && !sessionFault(err.Code)
	}
	guard(&config.Config)
}

// connect opens a connection outside the pool and prepares it. The parameters in more override
// connectionSettings.
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

// identity describes a session and the database that it is in.
type identity struct {
	// backend is the process id of the server process.
	backend uint32
	// incarnation changes with each restart, failover and restore.
	incarnation string
	// product is what version() returns.
	product string
	// encoding is that of the database.
	encoding string
	// version is server_version_num.
	version int32
	// role is session_replication_role.
	role     string
	migrated bool
}

// selectIdentity names the incarnation by the start of the server, the oid of the database, and the
// oids of the tables whose ids are cached. A restart, a failover, a restore, and a database or
// table that was created again all change it.
//
// It also makes commits synchronous: a commit that is acknowledged before it is on disk would let a
// 202, or a mark, vanish in a crash. A stricter setting than `on` stays. transaction_timeout exists
// from version 17 on.
const selectIdentity = `select pg_backend_pid(), pg_postmaster_start_time()::text || ' ' || d.oid ||
			coalesce(' ' || to_regclass('parties')::oid, '') || coalesce(' ' || to_regclass('accounts')::oid, ''),
		version(), pg_encoding_to_char(d.encoding), current_setting('server_version_num')::integer,
		current_setting('session_replication_role'), to_regclass('schema_version') is not null,
		case when current_setting('synchronous_commit') in ('off', 'local')
		then set_config('synchronous_commit', 'on', false) end,
		case when current_setting('server_version_num')::integer >= 170000
		then set_config('transaction_timeout', '0', false) end
	from pg_database d where d.datname = current_database()`

// identify executes selectIdentity.
func identify(ctx context.Context, conn *pgx.Conn) (i identity, err error) {
	var backend int32
	// It uses no prepared statement: a pooler may have another server process that does not know
	// it.
	err = conn.QueryRow(ctx, selectIdentity, pgx.QueryExecModeExec).Scan(&backend, &i.incarnation, &i.product,
		&i.encoding, &i.version, &i.role, &i.migrated, nil, nil)
	i.backend = uint32(backend)
	return i, translate(err)
}

const (
	// VersionMin is the oldest server_version_num that has all of connectionSettings.
	VersionMin = 150000
	// selectSchemaVersion is a second statement, and so a second transaction. A pooler may execute
	// it in another server process.
	selectSchemaVersion = `select pg_backend_pid(), version from schema_version`
)

// checkPooler returns an error if the server process is not the one whose key came with the
// connection. Then a pooler is in between, and nothing that belongs to a session can be relied on.
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
	case !isPostgres(i.product):
		return refuseDatabase("it is not PostgreSQL but %.100s: its locks and sequences have other guarantees",
			i.product)
	case i.version < VersionMin:
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

// checkSchema returns an error unless this program works with the version of the schema: its own,
// or the next one, since a migration lets the version before it go on.
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
	return checkPooler(conn, uint32(backend))
}

// initConn checks a new connection, and gives it the cache of the database that it leads to.
// Another incarnation than before gets an empty cache, since rows may be gone, and their ids may
// belong to other rows. Connections to the former incarnation are closed.
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
	// checkEvery is how often a connection in use is checked. The check detects a pooler that
	// passes on the key of a server process, and tables that were restored in place.
	checkEvery = time.Second
	// checkTimeout bounds the check. A connection to a frozen server is lost after it.
	checkTimeout = 2 * time.Second
)

// recheck implements pgxpool's PrepareConn. It reports whether the connection may be used.
func (s *Store) recheck(ctx context.Context, conn *pgx.Conn) (ok bool, err error) {
	state := stateOf(conn)
	if time.Since(state.checked) < checkEvery {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	i, err := identify(ctx, conn)
	if err != nil {
		// Only this one is closed. On a busy machine all others would be opened again at once.
		return false, nil
	}
	if i.incarnation != state.incarnation {
		s.pool.Reset() // The others lead to the former incarnation, too.
		return false, nil
	}
	if err := checkPooler(conn, i.backend); err != nil {
		return false, err
	}
	state.checked = time.Now()
	return true, nil
}

// noteWarning implements pgconn.NoticeHandler. PostgreSQL reports a commit whose wait for the
// standby was cancelled as a success, with a warning: 01000 (cancelled) or 57P01 (terminated). The
// text is in the server's language; severity and code are not.
func noteWarning(conn *pgconn.PgConn, notice *pgconn.Notice) {
	state, ok := conn.CustomData()[stateKey].(*connState)
	if ok && notice.SeverityUnlocalized == "WARNING" &&
		(notice.Code == "01000" || strings.HasPrefix(notice.Code, "57")) {
		state.warned = true
	}
}

// refusedByPooler describes the error of a pooler that refuses our startup parameters. PostgreSQL
// knows all of them, and has another code for one that it does not know (42704).
func refusedByPooler(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "08P01" {
		return refuseDatabase("a connection pooler stands before it (%s): let the URL name PostgreSQL itself",
			pg.Message)
	}
	return err
}

// IsRefused reports whether an operator must change the database or its URL.
func IsRefused(err error) bool {
	_, ok := errors.AsType[*DatabaseRefusedError](err)
	return ok
}
