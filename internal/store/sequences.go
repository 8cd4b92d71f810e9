package store

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// selectSequencesBehind finds sequences that are behind their tables. Logical replication does not
// carry sequences, so after a switchover by it they begin again from 1. Rows would get ids that
// others have, and a payment a seq before one that waits. Source:
// https://www.postgresql.org/docs/current/logical-replication-restrictions.html
//
// Only waiting payments count, since the log has those that are sent. There is one index descent
// for each partition.
const selectSequencesBehind = `with used (sequence, value) as (values
		('payments_seq', (select max(last.seq) from topic_partitions t cross join lateral (select p.seq from payments p
			where p.partition = t.partition and p.status = 'created'
			order by p.partition desc, p.seq desc limit 1) last)),
		('parties_id_seq', (select max(id) from parties)),
		('accounts_id_seq', (select max(id) from accounts)),
		('tenants_id_seq', (select max(id) from tenants)),
		('api_keys_id_seq', (select max(id) from api_keys)))
	select sequence, coalesce(pg_sequence_last_value(sequence::regclass), 0), value from used
	where value > coalesce(pg_sequence_last_value(sequence::regclass), 0)`

// setSequence is executed under the lock of advanceSeq. Of two that set a sequence, the later one
// must see the earlier one.
const setSequence = `select setval($1::regclass, $2) where coalesce(pg_sequence_last_value($1::regclass), 0) < $2`

// sequenceBehind is a sequence that would return a number that a row has.
type sequenceBehind struct {
	Name string
	At   int64
	Used int64
}

// advanceSequences sets each sequence that is behind its table to the greatest value in it. This
// happens before the first payment is stored in an incarnation of the database.
func (s *Store) advanceSequences(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, selectSequencesBehind)
	if err != nil {
		return translate(err)
	}
	behind, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sequenceBehind])
	if err != nil || len(behind) == 0 {
		return translate(err)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSeq, lockClassSeq); err != nil {
			return err
		}
		for _, b := range behind {
			s.logger.Warn("sequence behind its table", slog.String("sequence", b.Name), slog.Int64("at", b.At),
				slog.Int64("used", b.Used))
			if _, err := tx.Exec(ctx, setSequence, b.Name, b.Used); err != nil {
				return fmt.Errorf("sequence %s is at %d, its table uses %d: %w", b.Name, b.At, b.Used, err)
			}
		}
		return nil
	})
	return translate(err)
}
