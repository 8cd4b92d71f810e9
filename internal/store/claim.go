package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/paylatch/paylatch/internal/payment"
)

// ErrClaimed says that another transaction holds the partition: one that has not noticed yet that it lost the ownership.
var ErrClaimed = errors.New("the partition is claimed by another transaction")

// Claim is one transaction that holds a partition and the payments next in order there. While it is open no other transaction can
// claim the partition. It ends with Commit, or with Rollback, after which everything is as before. If the process or the session dies, PostgreSQL rolls
// it back. It is no pgx.Tx, since that begins in an exchange of its own.
type Claim struct {
	Partition Partition
	Payments  []payment.Payment // In order of Seq.
	versions  []pgtype.TID      // Where each payment's row is, as long as this transaction holds it.
	store     *Store
	conn      *pgx.Conn
	read      read // Where the claim is, and whether commits wait for a standby there.
	ended     bool
}

// The mark at the end of a claim needs this lock on both tables, which FOR UPDATE does not take. Were it taken only then, a CREATE INDEX that had begun meanwhile would
// let batches be published and not marked, again and again. It takes no transaction id and conflicts with no other reader or writer.
const lockTables = `lock table payments, topic_partitions in row exclusive mode`

// claimPartition locks the partition's row until the transaction ends; it never waits.
const claimPartition = `select` + partitionColumns + `from topic_partitions where partition = $1 for update skip locked`

// claimPayments locks the next payments until the transaction ends. It walks payments_unsent in order: the row is ordered by the table's
// own columns, or PostgreSQL sorts the whole backlog (facts section 5: 14 ms against 0.09 ms). Fenced delivery waits for a row that somebody else holds, under
// lock_timeout, since it leaves none out; locked delivery leaves it to whoever holds it.
var claimPayments = map[Delivery]string{Locked: claimPaymentsFor(`update skip locked`), Fenced: claimPaymentsFor(`update`)}

func claimPaymentsFor(lock string) string {
	return `select` + paymentColumns + `, ctid from payments where partition = $1 and status = 'created' order by partition, seq limit $2 for ` + lock
}

// Claim begins a transaction that holds the partition and at most limit of its unsent payments. ErrClaimed when another holds it.
func (s *Session) Claim(ctx context.Context, limit int) (*Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	claim, err := s.claim(ctx, claimPartition)
	if err != nil || limit == 0 {
		return claim, err
	}
	if err := claim.ClaimPayments(ctx, limit); err != nil {
		claim.Rollback()
		return nil, err
	}
	return claim, nil
}

// claim begins a transaction that holds the partition, in one exchange with the database: the statement lock locks it, once those before it are executed.
func (s *Session) claim(ctx context.Context, lock string, before ...string) (*Claim, error) {
	claim := &Claim{store: s.store, conn: s.conn, read: read{incarnation: stateOf(s.conn).incarnation}}
	batch := &pgx.Batch{}
	batch.Queue(hasStandby)
	for _, sql := range slices.Concat([]string{`begin`}, before, []string{lockTables}) {
		batch.Queue(sql)
	}
	batch.Queue(lock, s.partition)
	if err := claim.hold(ctx, batch); err != nil {
		claim.Rollback()
		return nil, err
	}
	return claim, nil
}

// hold executes a batch whose first statement is hasStandby, and whose last one returns the partition's
// row, locked.
func (c *Claim) hold(ctx context.Context, batch *pgx.Batch) error {
	results := c.conn.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }() // Whatever it says has been said by then.
	if err := results.QueryRow().Scan(&c.read.unconfirmed); err != nil {
		return translate(err)
	}
	for range batch.Len() - 2 {
		if _, err := results.Exec(); err != nil {
			return translate(err)
		}
	}
	rows, err := results.Query()
	if err != nil {
		return translate(err)
	}
	c.Partition, err = pgx.CollectExactlyOneRow(rows, scanPartition)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrClaimed
	}
	return translate(err)
}

// Confirm returns nil once the synchronous standby, if there is one, has vouched for a commit that began
// after the call. Then the claim's locks were in force after the claim, and the standby has what was
// claimed. After a failover an isolated primary gets no such confirmation: its locks keep out no session
// of the new primary, and its payments may be unknown there, so nothing may be decided in Kafka by them.
func (c *Claim) Confirm(ctx context.Context) error { return c.store.confirm(ctx, c.read) }

// claimUsual is room for what a claim finds when there is no backlog.
const claimUsual = 16

// ClaimPayments claims at most limit of the partition's unsent payments, the oldest.
func (c *Claim) ClaimPayments(ctx context.Context, limit int) error {
	rows, err := c.conn.Query(ctx, claimPayments[c.Partition.Delivery], c.Partition.Number, limit)
	if err != nil {
		return translate(err)
	}
	versioned := &versionedRows{Rows: rows}
	c.Payments, err = readPayments(ctx, c.conn, versioned, c.Partition.Topic, min(limit, claimUsual))
	c.versions = versioned.versions
	return err
}

// versionedRows are rows of paymentColumns with ctid as one more column, which it keeps.
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

// A batch is marked where its rows are. The statement can only be executed as a TID scan: status is
// compared as text, since `status = 'created'` implies the predicate of payments_unsent, and by
// statistics from before a backlog PostgreSQL would then read the whole index for each batch, or even
// for each payment. width_bucket finds the place of a row in the first array, which must be sorted.
//
// A row of the table keeps its ctid as long as the transaction that holds it does not change it.
// sent_at is not before created_at, also when the server's clock was set back: clients subtract them.
const markRows = `update payments p set status = 'sent', sent_at = greatest(clock_timestamp(), p.created_at),
		kafka_offset = ($3::bigint[])[width_bucket(p.ctid, $1::tid[])]
	where p.ctid = any($1::tid[]) and p.id = ($2::uuid[])[width_bucket(p.ctid, $1::tid[])] and p.status::text = 'created'`

const moveNextOffset = `update topic_partitions set next_offset = $2 where partition = $1`

// marks are the parameters of markRows.
type marks struct {
	versions []pgtype.TID
	ids      [][16]byte // Not uuid.UUID, which pgx would encode by way of its text.
	offsets  []int64
}

// marksOf sorts the first n payments of the claim by version. Their offsets follow each other from base.
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

// MarkSent records that the first n payments of the claim are in the topic, at consecutive offsets from base, and that the next record goes to the offset next. It is
// on record once Commit returns nil; when Commit fails it may be.
func (c *Claim) MarkSent(ctx context.Context, base int64, n int, next int64) error {
	marks := c.marksOf(base, n)
	batch := &pgx.Batch{}
	batch.Queue(markRows, marks.versions, marks.ids, marks.offsets)
	batch.Queue(moveNextOffset, c.Partition.Number, next)
	results := c.conn.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }()
	for _, want := range []int64{int64(n), 1} {
		tag, err := results.Exec()
		if err != nil {
			return translate(err)
		}
		if tag.RowsAffected() != want { // We hold the locks of these very rows.
			return fmt.Errorf("partition %d: %w: marked %d rows, wanted %d", c.Partition.Number, errImpossible, tag.RowsAffected(), want)
		}
	}
	return translate(results.Close())
}

// Halt stops the partition with a reason, on record once Commit returns nil.
func (c *Claim) Halt(ctx context.Context, reason string) error {
	_, err := c.conn.Exec(ctx, haltPartition, c.Partition.Number, reason)
	return translate(err)
}

// Commit ends the claim and puts on record what was marked. An error leaves the outcome unknown.
func (c *Claim) Commit(ctx context.Context) error {
	c.ended = true
	state := stateOf(c.conn)
	state.warned = false
	tag, err := c.conn.Exec(ctx, `commit`)
	if err == nil && tag.String() != "COMMIT" { // PostgreSQL rolls back what had failed, and says so.
		err = pgx.ErrTxCommitRollback
	}
	if err != nil && c.conn.PgConn().TxStatus() != 'I' {
		closeConn(c.conn) // It may hold the partition still.
	}
	if err == nil && state.warned {
		return errUnconfirmed
	}
	return translate(err)
}

// Rollback ends the claim as if it had never been; after Commit it does nothing.
func (c *Claim) Rollback() {
	if c.ended {
		return
	}
	c.ended = true
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if _, err := c.conn.Exec(ctx, `rollback`); err != nil {
		closeConn(c.conn) // PostgreSQL rolls back when the session ends.
	}
}
