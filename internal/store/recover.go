package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/payment"
)

// Recovered counts the records of a part of the log by what they are in the table.
type Recovered struct {
	// Marked are payments that were `created` and are marked now.
	Marked int
	// Restored are payments that the table had lost, and that are put back as `sent`.
	Restored int
	// Repeated are records of payments that are marked, or were found, at an earlier offset.
	Repeated int
	// Unexpected are records that contradict the table.
	Unexpected int
	// UnexpectedReasons has one sentence for each unexpected record, and at most reasonsMax.
	UnexpectedReasons []string
}

// reasonsMax bounds UnexpectedReasons. One is enough to halt the partition.
const reasonsMax = 3

const bumpGeneration = `update topic_partitions set generation = generation + 1 where partition = $1
	returning generation, ctid`

// CountTakeover increments the generation of the partition. An owner that remembers an earlier
// generation may not publish. On record once Commit returns nil.
func (c *Claim) CountTakeover(ctx context.Context) error {
	err := c.conn.QueryRow(ctx, bumpGeneration, c.Partition.Number).Scan(&c.Partition.Generation, &c.row)
	return translate(err)
}

// markFound marks payments by id, since the log names them by id. It can use only the primary key.
// See markRows for its form; here the sorted array is that of the ids.
const markFound = `update payments p set status = 'sent', sent_at = greatest(clock_timestamp(), p.created_at),
		kafka_offset = ($2::bigint[])[width_bucket(p.id, $1::uuid[])]
	where p.id = any($1::uuid[]) and p.status::text = 'created'`

// Recover makes the table agree with the log. found are the payments in the log, in order of
// offset, from next_offset up to the offset next.
//
// Payments that are `created` are marked at their offset. A payment without a row is put back from
// its record: an earlier copy of the database was restored. If any record is unexpected, nothing is
// written, unless passOver is true, as an operator may decide. On record once Commit returns nil.
func (c *Claim) Recover(ctx context.Context, found []payment.Payment, next int64, passOver bool) (Recovered, error) {
	var r Recovered
	marked, lost, err := c.compare(ctx, found, &r)
	if err != nil || len(r.UnexpectedReasons) > 0 && !passOver {
		return r, err
	}
	if err := c.restore(ctx, lost); err != nil {
		return r, err
	}
	slices.SortFunc(marked, func(p, q payment.Payment) int { return slices.Compare(p.ID[:], q.ID[:]) })
	ids, offsets := make([][16]byte, len(marked)), make([]int64, len(marked))
	for i, p := range marked {
		ids[i], offsets[i] = p.ID, p.Emission.Offset
	}
	tag, err := c.conn.Exec(ctx, markFound, ids, offsets)
	if err != nil {
		return r, translate(err)
	}
	if n := int(tag.RowsAffected()); n != len(marked) {
		return r, fmt.Errorf("partition %d: %w: marked %d rows of the log's tail, wanted %d", c.Partition.Number,
			errCorrupt, n, len(marked))
	}
	if err := c.moved(c.conn.QueryRow(ctx, moveNextOffset, c.Partition.Number, next, c.row)); err != nil {
		return r, err
	}
	c.Partition.NextOffset = next
	r.Marked, r.Restored = len(marked), len(lost)
	return r, nil
}

// compare divides what was found into payments to mark and payments that the table has lost. It
// counts in r what is neither.
func (c *Claim) compare(ctx context.Context, found []payment.Payment, r *Recovered) (marked, lost []payment.Payment,
	err error,
) {
	if len(found) == 0 {
		return nil, nil, nil
	}
	tenants, err := c.tenants(ctx, found)
	if err != nil {
		return nil, nil, err
	}
	ids := make([]payment.ID, len(found))
	for i, p := range found {
		ids[i] = p.ID
	}
	rows, err := findIn(ctx, c.conn, ids, c.Partition.Topic)
	if err != nil {
		return nil, nil, err
	}
	unexpected := func(p payment.Payment, format string, args ...any) {
		r.Unexpected++
		if len(r.UnexpectedReasons) < reasonsMax {
			r.UnexpectedReasons = append(r.UnexpectedReasons,
				fmt.Sprintf("the record of payment %s at offset %d ", p.ID, p.Emission.Offset)+
					fmt.Sprintf(format, args...))
		}
	}
	seen := make(map[payment.ID]bool, len(found))
	for _, p := range found {
		row, there := rows[p.ID]
		tenant, known := tenants[p.Tenant.Name]
		p.Tenant.ID = tenant
		switch {
		case seen[p.ID], there && row.Emission != nil && row.Emission.Offset < p.Emission.Offset:
			r.Repeated++
			continue
		case !known:
			unexpected(p, "is of tenant %q, whom the database does not know", p.Tenant.Name)
		case !there:
			lost = append(lost, p)
		case row.Tenant != p.Tenant:
			unexpected(p, "is of tenant %q, its row of %q", p.Tenant.Name, row.Tenant.Name)
		case row.Partition != c.Partition.Number:
			unexpected(p, "is of partition %d by its row", row.Partition)
		case len(p.Differences(*row)) > 0:
			unexpected(p, "differs from its row in %v", p.Differences(*row))
		case row.Emission == nil:
			marked = append(marked, p)
		case row.Emission.Offset != p.Emission.Offset:
			unexpected(p, "is marked at offset %d, where it is not", row.Emission.Offset)
		}
		seen[p.ID] = true
	}
	return marked, lost, nil
}

const selectTenantIDs = `select name, id from tenants where name = any($1)`

// tenants returns the ids of the tenants of the payments, by name. Unknown tenants are absent.
func (c *Claim) tenants(ctx context.Context, found []payment.Payment) (map[string]int32, error) {
	ids := map[string]int32{}
	for _, p := range found {
		ids[p.Tenant.Name] = 0
	}
	names := make([]string, 0, len(ids))
	for name := range ids {
		names = append(names, name)
	}
	rows, err := c.conn.Query(ctx, selectTenantIDs, names)
	if err != nil {
		return nil, translate(err)
	}
	clear(ids)
	var name string
	var id int32
	_, err = pgx.ForEachRow(rows, []any{&name, &id}, func() error {
		ids[name] = id
		return nil
	})
	return ids, translate(err)
}

const (
	restorePayments = `insert into payments (id, tenant_id, amount, currency,
			originator_id, beneficiary_id, sender_id, receiver_id, reference, trace_context, partition,
			seq, created_at, sent_at, kafka_offset, status)
		select u.*, 'sent'::payment_status from unnest($1::uuid[], $2::integer[], $3::bigint[], $4::text[],
			$5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::bytea[], $11::smallint[],
			$12::bigint[], $13::timestamptz[], $14::timestamptz[], $15::bigint[]) as u
		on conflict on constraint payments_id_is_unique do nothing`
	// lockSeq and advanceSeq move the sequence beyond the restored rows. The sequence went back
	// with the table, and a payment that is created from now on must come after all that was
	// restored.
	//
	// One takeover does this at a time, or the setval of a later one could undo that of an earlier
	// one. The margin of 10,000 covers what is drawn in between. It is a transaction of its own,
	// before the rows are written. A sequence is not transactional anyway. And after a restore the
	// takeovers of all partitions run at once: in one transaction they would wait for each other's
	// ten thousand rows, longer than lock_timeout.
	lockSeq    = `select pg_advisory_xact_lock($1, 0)`
	advanceSeq = `select setval('payments_seq', $1::bigint + 10000) from payments_seq where last_value <= $1::bigint`
)

// errCreatedConcurrently means that a payment which was missing a moment ago has been created again
// by its client's retry. The next attempt finds and marks it.
var errCreatedConcurrently = errors.New("a payment that is put back from the log was created again at the same time")

// restore puts lost payments back as `sent`. It returns errCreatedConcurrently if one of them has a
// row again.
func (c *Claim) restore(ctx context.Context, lost []payment.Payment) error {
	if len(lost) == 0 {
		return nil
	}
	// As columns does.
	slices.SortFunc(lost, func(p, q payment.Payment) int { return slices.Compare(p.ID[:], q.ID[:]) })
	n := len(lost)
	where, seqs, offsets := make([]int16, n), make([]int64, n), make([]int64, n)
	created, sent := make([]time.Time, n), make([]time.Time, n)
	for i, p := range lost {
		where[i] = int16(c.Partition.Number)
		seqs[i], offsets[i] = p.Seq, p.Emission.Offset
		created[i], sent[i] = p.CreatedAt, p.Emission.At
		if sent[i].Before(created[i]) {
			// A record's time is in milliseconds, and by another machine's clock.
			sent[i] = created[i]
		}
	}
	if err := c.advanceSeq(ctx, slices.Max(seqs)); err != nil {
		return err
	}
	columns, err := c.internedColumns(ctx, lost)
	if err != nil {
		return err
	}
	// The partition whose log has the record, whatever the number of partitions is by now.
	columns[len(columns)-1] = where
	tag, err := c.conn.Exec(ctx, restorePayments, append(columns, seqs, created, sent, offsets)...)
	if err != nil {
		return translate(err)
	}
	if int(tag.RowsAffected()) != n {
		return errCreatedConcurrently
	}
	return nil
}

// advanceSeq makes new payments get numbers above seq.
func (c *Claim) advanceSeq(ctx context.Context, seq int64) error {
	pooled, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	defer pooled.Release()
	return translate(pgx.BeginFunc(ctx, pooled.Conn(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSeq, lockClassSeq); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, advanceSeq, seq)
		return err
	}))
}

// acquire takes a connection of the pool that leads to the database of the claim. After a failover
// or a restore it may lead to another one, where the same ids are other rows. Then it returns
// errOtherPrimary.
func (c *Claim) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	pooled, err := c.store.acquire(ctx)
	if err != nil {
		return nil, err
	}
	if stateOf(pooled.Conn()).incarnation != c.read.incarnation {
		pooled.Release()
		return nil, errOtherPrimary
	}
	return pooled, nil
}

// internedColumns interns parties and accounts in transactions of their own, and on one connection,
// as creates do.
func (c *Claim) internedColumns(ctx context.Context, lost []payment.Payment) ([]any, error) {
	conn, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	return columns(conn.Conn(), lost, 1)
}
