package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/migrations"
)

// Examination reads over one connection what the guarantees depend on. Unlike a Store it also works
// on a database that this program refuses. Not safe for concurrent use.
type Examination struct {
	conn   *pgx.Conn
	access *access
	// config is copied for every connection; see prepareConfig.
	config *pgx.ConnConfig
}

// Examine connects to the database at url, with the settings of all connections of this program.
func Examine(ctx context.Context, url string, how ...Option) (*Examination, error) {
	o := optionsOf(how)
	access, err := newAccess(url, o.access, o.logger)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", urlFault(err))
	}
	if _, err := applySettings(config.RuntimeParams); err != nil {
		return nil, err
	}
	e := &Examination{access: access, config: config}
	e.conn, err = e.connect(ctx)
	return e, err
}

// connect opens a connection.
func (e *Examination) connect(ctx context.Context) (*pgx.Conn, error) {
	config := e.config.Copy()
	prepareConfig(config, e.access)
	conn, err := pgx.ConnectConfig(ctx, config)
	return conn, translate(err)
}

// Close closes the connection.
func (e *Examination) Close() { closeConn(e.conn) }

// Server describes a server and the session with it.
type Server struct {
	// Version is server_version_num, and VersionText is server_version.
	Version     int32
	VersionText string
	Encoding    string
	// ReplicationRole is session_replication_role. Triggers fire only if it is "origin".
	ReplicationRole string
	// InRecovery is true on a standby.
	InRecovery     bool
	FSync          bool
	FullPageWrites bool
	// StandbyNames is synchronous_standby_names; empty means that no commit waits for a standby.
	StandbyNames string
	// Synchronous is how many standbys confirm commits now. It is -1 if the role may not see it.
	Synchronous int
	// TLS is the version of TLS on this connection; empty without TLS.
	TLS string
	// Verified is true if the certificate and the host name of the server were checked.
	Verified bool
	// Local is true for a Unix socket or a loopback address.
	Local bool
	// ClockAhead is how far the server's clock is ahead of this machine's, give or take ClockError.
	ClockAhead time.Duration
	ClockError time.Duration
}

// selectServer counts the standbys whose state is hidden: sync_state is null without pg_monitor.
const selectServer = `select current_setting('server_version_num')::integer, current_setting('server_version'),
		(select pg_encoding_to_char(encoding) from pg_database where datname = current_database()),
		current_setting('session_replication_role'), pg_is_in_recovery(),
		current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean,
		current_setting('synchronous_standby_names'),
		(select case when bool_or(sync_state is null) then -1
			else count(*) filter (where state = 'streaming' and sync_state in ('sync', 'quorum')) end
			from pg_stat_replication),
		coalesce((select version from pg_stat_ssl where pid = pg_backend_pid() and ssl), ''), clock_timestamp()`

// Server reads settings of the server and of the session.
func (e *Examination) Server(ctx context.Context) (s Server, err error) {
	var now time.Time
	began := time.Now()
	err = e.conn.QueryRow(ctx, selectServer, pgx.QueryExecModeExec).Scan(&s.Version, &s.VersionText, &s.Encoding,
		&s.ReplicationRole, &s.InRecovery, &s.FSync, &s.FullPageWrites, &s.StandbyNames, &s.Synchronous, &s.TLS, &now)
	if err != nil {
		return s, translate(err)
	}
	took := time.Since(began)
	s.ClockAhead, s.ClockError = now.Sub(began.Add(took/2)), took/2
	s.Verified = s.TLS != "" && sslMode(e.config) == sslVerifyFull
	s.Local = e.isLocal()
	return s, nil
}

// isLocal reports whether the server is on this machine.
func (e *Examination) isLocal() bool {
	remote, isTCP := e.conn.PgConn().Conn().RemoteAddr().(*net.TCPAddr)
	return !isTCP || remote.IP.IsLoopback()
}

// Pooled returns an error if a connection pooler stands before the server. It looks twice, since a
// pooler may pass on the key of a server process and use another process for the next transaction.
func (e *Examination) Pooled(ctx context.Context) error {
	for range 2 {
		var backend int32
		err := e.conn.QueryRow(ctx, `select pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&backend)
		if err != nil {
			return translate(err)
		}
		if err := checkPooler(e.conn, uint32(backend)); err != nil {
			return err
		}
	}
	return nil
}

// TryServer tests by two sessions that advisory locks exclude each other and that sequences grow.
// It draws numbers of payments_seq.
func (e *Examination) TryServer(ctx context.Context) error {
	second, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(second)
	if err := checkServer(ctx, e.conn, second); err != nil {
		return err
	}
	_, err = e.conn.Exec(ctx, `select pg_advisory_unlock_all()`)
	return translate(err)
}

// SchemaVersion returns the version of the schema, which is 0 if there is none, and the one that
// this program has.
func (e *Examination) SchemaVersion(ctx context.Context) (version, latest int32, err error) {
	latest = migrations.Latest()
	err = e.conn.QueryRow(ctx, `select version from schema_version`).Scan(&version)
	err = translate(err)
	if errors.Is(err, errNotMigrated) {
		err = nil
	}
	return version, latest, err
}

// triggers are those of the schema, as table.trigger. They keep rows as they were stored.
var triggers = []string{
	"accounts.accounts_are_immutable",
	"accounts.accounts_are_kept",
	"api_keys.api_keys_stay_revoked",
	"operator_log.operator_log_is_chained",
	"operator_log.operator_log_is_immutable",
	"operator_log.operator_log_is_kept",
	"operator_log_head.operator_log_head_advances",
	"operator_log_head.operator_log_head_is_immutable",
	"operator_log_head.operator_log_head_is_kept",
	"parties.parties_are_immutable",
	"parties.parties_are_kept",
	"payments.payments_are_immutable",
	"payments.payments_are_kept",
	"payments.payments_are_not_truncated",
	"payments.payments_stay_marked",
	"tenants.tenants_are_immutable",
	"tenants.tenants_are_kept",
}

const selectMissingTriggers = `select name from unnest($1::text[]) name where not exists (
	select from pg_trigger t join pg_class c on c.oid = t.tgrelid
	where c.relnamespace = current_schema()::regnamespace and c.relname || '.' || t.tgname = name
		and t.tgenabled in ('O', 'A')) order by 1`

// MissingTriggers returns the triggers of the schema that are not there or do not fire.
func (e *Examination) MissingTriggers(ctx context.Context) ([]string, error) {
	return e.texts(ctx, selectMissingTriggers, triggers)
}

const selectIsOwner = `select (select rolsuper from pg_roles where rolname = current_user)
	or pg_has_role(current_user, relowner, 'USAGE') from pg_class where oid = 'payments'::regclass`

// IsOwner reports whether the role can take triggers away: it is a superuser, or owns the tables.
func (e *Examination) IsOwner(ctx context.Context) (is bool, err error) {
	err = e.conn.QueryRow(ctx, selectIsOwner).Scan(&is)
	return is, translate(err)
}

// TrySequence returns an error if the numbers of payments_seq do not grow over all sessions. Then a
// later payment may get a lower number.
func (e *Examination) TrySequence(ctx context.Context) error { return checkSequence(ctx, e.conn) }

// SequencesBehind returns the sequences that would return a number that a row has. The service
// advances them when it connects.
func (e *Examination) SequencesBehind(ctx context.Context) ([]string, error) {
	rows, err := e.conn.Query(ctx, selectSequencesBehind)
	if err != nil {
		return nil, translate(err)
	}
	behind, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sequenceBehind])
	names := make([]string, len(behind))
	for i, b := range behind {
		names[i] = b.Name
	}
	return names, translate(err)
}

func (e *Examination) texts(ctx context.Context, sql string, args ...any) ([]string, error) {
	rows, err := e.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, translate(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return found, translate(err)
}

// TryPrivileges returns a *MissingPrivilegesError unless the database role may do all that a
// process with these roles ever does, also in a recovery.
func (e *Examination) TryPrivileges(ctx context.Context, roles ...Role) error {
	return tryPrivileges(ctx, e.conn, roles...)
}

// Partitions lists all partitions.
func (e *Examination) Partitions(ctx context.Context) ([]Partition, error) {
	return partitionsIn(ctx, e.conn)
}

const countReplicas = `select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 2
	and classid::bigint = $1 and database = (select oid from pg_database where datname = current_database())`

// Senders returns how many senders are registered.
func (e *Examination) Senders(ctx context.Context) (n int, err error) {
	err = e.conn.QueryRow(ctx, countReplicas, lockClassReplica).Scan(&n)
	return n, translate(err)
}

// ConnectionLimits returns how many connections this role may have.
func (e *Examination) ConnectionLimits(ctx context.Context) (l ConnectionLimits, err error) {
	err = e.conn.QueryRow(ctx, selectConnectionLimits).Scan(&l.Role, &l.Database, &l.Server)
	return l, translate(err)
}
