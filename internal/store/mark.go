package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// versionedRows are rows of paymentColumns with ctid as an additional column, which it collects.
type versionedRows struct {
	pgx.Rows
	versions []pgtype.TID
	targets  []any
}

// Scan implements pgx.Rows.
func (r *versionedRows) Scan(dest ...any) error {
	var version pgtype.TID
	r.targets = append(append(r.targets[:0], dest...), &version)
	err := r.Rows.Scan(r.targets...)
	r.versions = append(r.versions, version)
	return err
}

// markRows marks the rows of a batch by their ctid. PostgreSQL can execute it only as a TID scan:
// status is compared as text, since `status = 'created'` implies the predicate of payments_unsent.
// With statistics from before a backlog, PostgreSQL would then read the whole index for each batch,
// or even for each payment. width_bucket finds the place of a row in the first array, which must be
// sorted.
//
// A row keeps its ctid as long as the transaction that has locked it does not change it. sent_at is
// never before created_at, even if the server's clock was set back, since clients subtract them.
const markRows = `update payments p set status = 'sent', sent_at = greatest(clock_timestamp(), p.created_at),
		kafka_offset = ($3::bigint[])[width_bucket(p.ctid, $1::tid[])]
	where p.ctid = any($1::tid[]) and p.id = ($2::uuid[])[width_bucket(p.ctid, $1::tid[])]
	and p.status::text = 'created'`

const (
	moveNextOffset = `update topic_partitions set next_offset = $2 where ctid = $3 and partition::integer = $1
		returning ctid`
	// selectFirstUnsent finds what locked delivery has skipped: rows that another session has
	// locked are still unsent.
	selectFirstUnsent = `select seq from payments where partition = $1 and status = 'created' and seq >= $2
		order by partition, seq limit 1`
)

// marks are the parameters of markRows.
type marks struct {
	versions []pgtype.TID
	// ids are not of type uuid.UUID, which pgx would encode as text first.
	ids     [][16]byte
	offsets []int64
}

// marksOf returns the first n payments of the claim, sorted by version. Their offsets are
// consecutive from base.
func (c *Claim) marksOf(base int64, n int) marks {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return compareTIDs(c.versions[i], c.versions[j]) })
	m := marks{make([]pgtype.TID, n), make([][16]byte, n), make([]int64, n)}
	for to, i := range order {
		m.versions[to], m.ids[to], m.offsets[to] = c.versions[i], c.Payments[i].ID, base+int64(i)
	}
	return m
}

func compareTIDs(a, b pgtype.TID) int {
	return cmp.Or(cmp.Compare(a.BlockNumber, b.BlockNumber), cmp.Compare(a.OffsetNumber, b.OffsetNumber))
}

// MarkSent records that the first n payments of the claim are in the topic, at consecutive offsets
// from base, and that next is the offset of the next record. On record once Commit returns nil. If
// Commit returns an error it may be on record.
func (c *Claim) MarkSent(ctx context.Context, base int64, n int, next int64) error {
	marks := c.marksOf(base, n)
	batch := &pgx.Batch{}
	batch.Queue(markRows, marks.versions, marks.ids, marks.offsets)
	batch.Queue(moveNextOffset, c.Partition.Number, next, c.row)
	if c.Partition.Delivery == DeliveryLocked {
		batch.Queue(selectFirstUnsent, c.Partition.Number, c.session.floor.seq)
	}
	results := c.conn.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }()
	tag, err := results.Exec()
	if err != nil {
		return translate(err)
	}
	if got := tag.RowsAffected(); got != int64(n) { // This claim holds the locks of these rows.
		return fmt.Errorf("partition %d: %w: marked %d rows, wanted %d", c.Partition.Number, errCorrupt, got, n)
	}
	if err := c.moved(results.QueryRow()); err != nil {
		return err
	}
	if n > 0 {
		c.marked = c.Payments[n-1].Seq
	}
	if c.Partition.Delivery == DeliveryLocked {
		if err := c.markedBelow(results.QueryRow()); err != nil {
			return err
		}
	}
	return translate(results.Close())
}

// moved reads the partition's row after moveNextOffset.
func (c *Claim) moved(row pgx.Row) error {
	err := row.Scan(&c.row)
	if errors.Is(err, pgx.ErrNoRows) { // This claim holds the lock of this row.
		return fmt.Errorf("partition %d: %w: its row is gone", c.Partition.Number, errCorrupt)
	}
	return translate(err)
}

// markedBelow reads the first payment that is unsent after the mark, if there is one.
func (c *Claim) markedBelow(row pgx.Row) error {
	var first int64
	err := row.Scan(&first)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	c.marked = min(c.marked, first)
	return translate(err)
}
