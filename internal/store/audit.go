package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// Snapshot is one consistent view of the payments, for an auditor: all that is committed when it is
// taken, and nothing later. Two transactions share it, so that single payments can be looked up
// while all are streamed. It locks nothing. Not safe for concurrent use.
type Snapshot struct {
	// stream reads SentRows. lookUp reads everything else while stream is in use.
	stream, lookUp *pgx.Conn
}

const (
	beginSnapshot  = `begin isolation level repeatable read read only`
	exportSnapshot = `select pg_export_snapshot()`
	// It takes no parameter. PostgreSQL has made the name.
	importSnapshot = `set transaction snapshot '%s'`
)

// snapshotSettings let a snapshot wait while the log is read between two of its statements.
var snapshotSettings = map[string]string{
	"application_name":                    "paylatch verify",
	"idle_in_transaction_session_timeout": "0",
}

// Snapshot takes a snapshot. Close it soon: while it is open, PostgreSQL keeps all old versions of
// all rows.
func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) {
	stream, err := s.connect(ctx, snapshotSettings)
	if err != nil {
		return nil, err
	}
	lookUp, err := s.connect(ctx, snapshotSettings)
	if err != nil {
		closeConn(stream)
		return nil, err
	}
	snap := &Snapshot{stream, lookUp}
	if err := snap.begin(ctx); err != nil {
		snap.Close()
		return nil, translate(err)
	}
	return snap, nil
}

func (s *Snapshot) begin(ctx context.Context) error {
	var name string
	if _, err := s.stream.Exec(ctx, beginSnapshot); err != nil {
		return err
	}
	if err := s.stream.QueryRow(ctx, exportSnapshot).Scan(&name); err != nil {
		return err
	}
	if _, err := s.lookUp.Exec(ctx, beginSnapshot); err != nil {
		return err
	}
	_, err := s.lookUp.Exec(ctx, fmt.Sprintf(importSnapshot, name))
	return err
}

// Close ends the snapshot.
func (s *Snapshot) Close() {
	closeConn(s.stream)
	closeConn(s.lookUp)
}

const selectTotals = `select partition, count(*), count(*) filter (where status = 'created'),
	coalesce(max(kafka_offset), -1)
	from payments group by partition`

// Totals counts the payments of one partition.
type Totals struct {
	Partition int32
	Payments  int64
	Unsent    int64
	// LastOffset is the highest offset of a sent payment; -1 if there is none.
	LastOffset int64
}

// Totals counts the payments of each partition that has any. It reads the whole table.
func (s *Snapshot) Totals(ctx context.Context) ([]Totals, error) {
	rows, err := s.lookUp.Query(ctx, selectTotals)
	if err != nil {
		return nil, translate(err)
	}
	totals, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Totals])
	return totals, translate(err)
}

// Partitions lists the partitions in the snapshot.
func (s *Snapshot) Partitions(ctx context.Context) ([]Partition, error) {
	rows, err := s.lookUp.Query(ctx, selectPartitions)
	if err != nil {
		return nil, translate(err)
	}
	partitions, err := pgx.CollectRows(rows, scanPartition)
	return partitions, translate(err)
}

// Place is where a payment was marked sent. Offset is -1 while it is unsent.
type Place struct {
	Partition int32
	Offset    int64
}

const selectPlaces = `select id, partition, coalesce(kafka_offset, -1) from payments where id = any($1::uuid[])`

// Places looks payments up by id. Payments that do not exist are absent from the result.
func (s *Snapshot) Places(ctx context.Context, ids []payment.ID) (map[payment.ID]Place, error) {
	raw := make([]uuid.UUID, len(ids))
	for i, id := range ids {
		raw[i] = uuid.UUID(id)
	}
	rows, err := s.lookUp.Query(ctx, selectPlaces, raw)
	if err != nil {
		return nil, translate(err)
	}
	places := make(map[payment.ID]Place, len(ids))
	var id uuid.UUID
	var partition int16
	var offset int64
	_, err = pgx.ForEachRow(rows, []any{&id, &partition, &offset}, func() error {
		places[payment.ID(id)] = Place{int32(partition), offset}
		return nil
	})
	return places, translate(err)
}
