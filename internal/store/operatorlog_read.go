package store

import (
	"context"
	"encoding/json"
	"errors"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/operatorlog"
)

const (
	// OperatorLogMax bounds the rows of one list.
	OperatorLogMax = 10_000
	// logPageRows is how many rows of the operator's log a verification reads at once: at most
	// about 7 MB, and 1 MB as rows mostly are.
	logPageRows = 1000
)

const logColumns = ` seq, format, at, system_id, timeline, database_id, table_id, role, client_address, os_user, host,
	version, command, action, phase, begun, result, arguments::text, before::text, after::text, previous, hash `

const (
	// selectLogNewest and selectLogPage read the primary key, whatever the size of the log. The
	// condition on e.phase is always true. Without it PostgreSQL would choose between two plans.
	selectLogNewest = `select` + logColumns + `, phase = 'begun' and not exists (select from operator_log e
			where e.begun = l.seq and e.begun > 0 and e.phase = 'ended')
		from operator_log l where seq < $1 order by seq desc limit $2`
	selectLogPage = `select` + logColumns + `from operator_log where seq > $1 order by seq limit $2`
	selectLogHead = `select seq, hash from operator_log_head where only_row`
	// selectLogDatabase is the identity that operator_log_append gives to rows.
	selectLogDatabase = `select (select system_identifier from pg_control_system()),
		('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer,
		(select oid::bigint from pg_database where datname = current_database()), 'operator_log'::regclass::oid::bigint`
)

// LoggedEntry is a row of the operator's log.
type LoggedEntry struct {
	operatorlog.Entry
	// Open is true for an operation that has begun and not ended: its outcome is unknown.
	Open bool `json:"open,omitempty"`
}

// scanLogged scans logColumns and more columns.
func scanLogged(row pgx.CollectableRow, more ...any) (e operatorlog.Entry, err error) {
	var arguments, before, after string
	var previous, hash []byte
	targets := []any{
		&e.Seq, &e.Format, &e.At, &e.Database.SystemID, &e.Database.Timeline, &e.Database.DatabaseID,
		&e.Database.TableID, &e.Role, &e.ClientAddress, &e.OSUser, &e.Host, &e.Version, &e.Command, &e.Action,
		&e.Phase, &e.Begun, &e.Result, &arguments, &before, &after, &previous, &hash,
	}
	err = row.Scan(append(targets, more...)...)
	e.At = e.At.UTC()
	e.Arguments, e.Before, e.After = json.RawMessage(arguments), json.RawMessage(before), json.RawMessage(after)
	copy(e.Previous[:], previous)
	copy(e.Hash[:], hash)
	return e, err
}

// OperatorLog returns the last rows before the row before, in order; of all rows if before is 0. It
// returns at most limit rows, which is at most OperatorLogMax.
func (s *Store) OperatorLog(ctx context.Context, before int64, limit int) ([]LoggedEntry, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := s.pool.Query(ctx, selectLogNewest, before, min(limit, OperatorLogMax))
	if err != nil {
		return nil, translate(err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l LoggedEntry, err error) {
		l.Entry, err = scanLogged(row, &l.Open)
		return l, err
	})
	for i, j := 0, len(entries)-1; i < j; i, j = i+1, j-1 {
		entries[i], entries[j] = entries[j], entries[i]
	}
	return entries, translate(err)
}

// VerifyOperatorLog checks the chain of the operator's log, page by page, in one snapshot. kept is
// a head that was kept outside the database, or nil. It calls each, which may be nil, with every
// row.
func (s *Store) VerifyOperatorLog(
	ctx context.Context, kept *operatorlog.Head, each func(operatorlog.Entry),
) (r operatorlog.Report, err error) {
	conn, err := s.connect(ctx, snapshotSettings)
	if err != nil {
		return r, err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, beginSnapshot); err != nil {
		return r, translate(err)
	}
	head, here, err := logEnd(ctx, conn)
	if err != nil {
		return r, err
	}
	v := operatorlog.NewVerifier(kept)
	for last, more := int64(math.MinInt64), true; more; {
		last, more, err = verifyPage(ctx, conn, v, last, each)
		if err != nil {
			return r, err
		}
	}
	return v.Report(head, here), nil
}

// logEnd returns the head of the log, nil if its row is missing, and the database.
func logEnd(ctx context.Context, conn *pgx.Conn) (head *operatorlog.Head, here operatorlog.Database, err error) {
	head = &operatorlog.Head{}
	var hash []byte
	err = conn.QueryRow(ctx, selectLogHead).Scan(&head.Seq, &hash)
	copy(head.Hash[:], hash)
	if errors.Is(err, pgx.ErrNoRows) {
		head, err = nil, nil
	}
	if err == nil {
		err = conn.QueryRow(ctx, selectLogDatabase).Scan(&here.SystemID, &here.Timeline, &here.DatabaseID,
			&here.TableID)
	}
	return head, here, translate(err)
}

// verifyPage checks the rows after last. It returns the last one that it has read, and whether
// there may be more to check.
func verifyPage(ctx context.Context, conn *pgx.Conn, v *operatorlog.Verifier, last int64,
	each func(operatorlog.Entry),
) (int64, bool, error) {
	rows, err := conn.Query(ctx, selectLogPage, last, logPageRows)
	if err != nil {
		return 0, false, translate(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		e, err := scanLogged(rows)
		if err != nil {
			return 0, false, translate(err)
		}
		if each != nil {
			each(e)
		}
		last = e.Seq
		if !v.Add(e) {
			return last, false, nil
		}
	}
	return last, n == logPageRows, translate(rows.Err())
}
