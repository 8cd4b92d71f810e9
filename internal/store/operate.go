package store

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/operatorlog"
)

// Operate returns a session for an operator's work on a partition. It owns nothing, and holds
// nothing until ClaimWaiting.
func (s *Store) Operate(ctx context.Context, partition int32) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := s.dedicated(ctx)
	if err != nil {
		return nil, err
	}
	return &Session{store: s, conn: conn, partition: partition}, nil
}

// The batch in progress ends within PublishTimeout and RecordTimeout. The transaction of a dead
// owner ends with idleInTransaction.
const (
	waitForClaim = `select set_config('lock_timeout', '20s', true), set_config('statement_timeout', '25s',
		true)`
	claimPartitionWaiting = `select` + claimColumns + `from topic_partitions where partition = $1 for update`
)

// ClaimWaiting claims the partition for an operator. It waits for the batch in progress. It returns
// ErrNoPartition if there is no such partition.
func (s *Session) ClaimWaiting(ctx context.Context) (*Claim, error) {
	claim, err := s.claim(ctx, []string{waitForClaim}, claimPartitionWaiting, s.partition)
	if errors.Is(err, ErrClaimed) { // It waits for the lock, so there is no row.
		err = ErrNoPartition
	}
	return claim, err
}

// BeginOperation is like Store.BeginOperation, in the database of the claim.
func (c *Claim) BeginOperation(ctx context.Context, change Change) (*Operation, error) {
	conn, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	return beginOperation(ctx, conn.Conn(), change)
}

// EndOperation records with the claim that the operation has succeeded, and the state after it. It
// is the last statement before Commit. On record once Commit returns nil.
func (c *Claim) EndOperation(ctx context.Context, o *Operation, after any) (err error) {
	c.logged, err = o.end(ctx, c.conn, operatorlog.Succeeded, after)
	return err
}

const setDelivery = `update topic_partitions set delivery = $2, changed_at = now() where partition = $1`

// SetDelivery changes how the partition's payments are published. On record once Commit returns
// nil.
func (c *Claim) SetDelivery(ctx context.Context, d Delivery) error {
	_, err := c.conn.Exec(ctx, setDelivery, c.Partition.Number, string(d))
	return translate(err)
}

const (
	// waitForScan allows a scan of the whole table, at about 100 MB/s: there is no index on
	// kafka_offset, and none is worth its cost for this. The partition is halted, and
	// client_connection_check_interval cancels the query if the operator disconnects.
	waitForScan = `select set_config('statement_timeout', '15min', true)`
	// allowResend lets this transaction take marks back: see migration 008.
	allowResend = `select allow_resend()`
	unmarkFrom  = `update payments set status = 'created', sent_at = null, kafka_offset = null
	where partition = $1 and status = 'sent' and kafka_offset >= $2`
)

// UnmarkFrom takes back the marks at and above an offset, whose records are lost, and returns how
// many there were. It is the only place where a status goes back: an operator has decided to send
// these payments again. The generation rises, so that no owner skips them: see floor. On record
// once Commit returns nil.
func (c *Claim) UnmarkFrom(ctx context.Context, offset int64) (int64, error) {
	for _, sql := range []string{waitForScan, allowResend} {
		if _, err := c.conn.Exec(ctx, sql); err != nil {
			return 0, translate(err)
		}
	}
	tag, err := c.conn.Exec(ctx, unmarkFrom, c.Partition.Number, offset)
	if err != nil {
		return 0, translate(err)
	}
	c.session.floor = floor{}
	return tag.RowsAffected(), c.CountTakeover(ctx)
}

const countUnsent = `select count(*) from payments where partition = $1 and status = 'created'`

// Unsent counts all unsent payments of the partition.
func (c *Claim) Unsent(ctx context.Context) (n int64, err error) {
	if _, err := c.conn.Exec(ctx, waitForScan); err != nil {
		return 0, translate(err)
	}
	err = c.conn.QueryRow(ctx, countUnsent, c.Partition.Number).Scan(&n)
	return n, translate(err)
}

const resumeAt = `update topic_partitions set state = 'active', reason = null, changed_at = now(), topic_id = $2,
	next_offset = $3
	where partition = $1`

// ResumeAt makes a halted partition active and takes the log as it is now: the topic's id, and the
// end from which on it is ours. On record once Commit returns nil.
func (c *Claim) ResumeAt(ctx context.Context, topicID uuid.UUID, nextOffset int64) error {
	_, err := c.conn.Exec(ctx, resumeAt, c.Partition.Number, topicID, nextOffset)
	return translate(err)
}
