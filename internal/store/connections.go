package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SessionRefused reports whether no session could be opened because the server, the database or the
// role has as many connections as it may, or because the server has no memory for another one.
func SessionRefused(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); !ok {
		return false
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "53300" || pg.Code == "53200") // too_many_connections, out_of_memory.
}

// ConnectionLimits says how many connections the session's role may have, by each rule. A limit
// that does not exist is -1.
type ConnectionLimits struct {
	Role, Database, Server int
}

// Least returns the smallest limit, and which one it is.
func (l ConnectionLimits) Least() (limit int, of string) {
	limit, of = l.Server, "server"
	if l.Database >= 0 && l.Database < limit {
		limit, of = l.Database, "database"
	}
	if l.Role >= 0 && l.Role < limit {
		limit, of = l.Role, "role"
	}
	return limit, of
}

// selectConnectionLimits knows that superusers ignore the limits of role and database, and may use
// the reserved connections. reserved_connections exists from version 16 on. Source:
// https://www.postgresql.org/docs/current/runtime-config-connection.html
const selectConnectionLimits = `select case when r.rolsuper then -1 else r.rolconnlimit end,
		case when r.rolsuper then -1 else d.datconnlimit end,
		current_setting('max_connections')::integer - case when r.rolsuper then 0
			else current_setting('superuser_reserved_connections')::integer
				+ coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::integer end
	from pg_roles r, pg_database d where r.rolname = session_user and d.datname = current_database()`

// ConnectionLimits queries over the session of the presence, since there may be no other one.
func (p *Presence) ConnectionLimits(ctx context.Context) (l ConnectionLimits, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = p.conn.QueryRow(ctx, selectConnectionLimits).Scan(&l.Role, &l.Database, &l.Server)
	return l, translate(err)
}

// Now returns the time by the database's clock.
func (p *Presence) Now(ctx context.Context) (now time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = p.conn.QueryRow(ctx, `select clock_timestamp()`).Scan(&now)
	return now, translate(err)
}

// ConnectionsMax returns how many connections the store may have, without its sessions.
func (s *Store) ConnectionsMax() int { return int(s.pool.Stat().MaxConns()) + probeConnections }

// selectPartitionsWithUnsent is served by payments_unsent.
const selectPartitionsWithUnsent = `select partition::integer from topic_partitions t
	where exists (select from payments p where p.partition = t.partition and p.status = 'created')`

// WithUnsent returns the partitions that have unsent payments.
func (p *Presence) WithUnsent(ctx context.Context) (map[int32]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := p.conn.Query(ctx, selectPartitionsWithUnsent)
	if err != nil {
		return nil, translate(err)
	}
	with := map[int32]bool{}
	var partition int32
	_, err = pgx.ForEachRow(rows, []any{&partition}, func() error { with[partition] = true; return nil })
	return with, translate(err)
}

// reserveTimeout bounds the wait for the one connection of Reserve.
const reserveTimeout = 2 * time.Second

// Reserve makes sure that the pool has a connection, without which payments are neither taken nor
// recovered. It returns an error for which SessionRefused is true if the server refuses one.
func (s *Store) Reserve(ctx context.Context) error {
	if s.pool.Stat().TotalConns() > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reserveTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	conn.Release()
	return nil
}

// CloseIdle closes all idle connections of the pool but one, so that other sessions can be opened.
// It returns how many it has closed.
func (s *Store) CloseIdle(ctx context.Context) (closed int) {
	if s.pool.Stat().IdleConns() < 2 {
		return 0
	}
	idle := s.pool.AcquireAllIdle(ctx)
	for i, conn := range idle {
		if i == 0 {
			conn.Release()
			continue
		}
		closeConn(conn.Hijack())
		closed++
	}
	return closed
}
