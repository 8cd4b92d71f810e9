package store

import (
	"context"
	"errors"

	"github.com/google/uuid"
)

// Operate returns a session for an operator's work on a partition, whoever owns it. It holds
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

// The pass in hand ends within PublishTimeout and RecordTimeout, and a dead owner's transaction
// with idleInTransaction.
const (
	waitForClaim = `select set_config('lock_timeout', '20s', true), set_config('statement_timeout', '25s',
		true)`
	claimPartitionWaiting = `select` + claimColumns + `from topic_partitions where partition = $1 for update`
)

// ClaimWaiting claims the partition for an operator: it waits for the pass in hand.
func (s *Session) ClaimWaiting(ctx context.Context) (*Claim, error) {
	claim, err := s.claim(ctx, []string{waitForClaim}, claimPartitionWaiting, s.partition)
	if errors.Is(err, ErrClaimed) { // It waited: there is none.
		err = ErrNoPartition
	}
	return claim, err
}

const setDelivery = `update topic_partitions set delivery = $2, changed_at = now() where partition = $1`

// SetDelivery changes how the partition's payments are published from the commit on.
func (c *Claim) SetDelivery(ctx context.Context, d Delivery) error {
	_, err := c.conn.Exec(ctx, setDelivery, c.Partition.Number, string(d))
	return translate(err)
}

const (
	// No index leads from an offset to its payment, and none is worth its cost for this: the whole
	// table may be read, at 100 MB/s and less. The partition is halted meanwhile; whoever asks has
	// time, and PostgreSQL ends the statement when he goes (client_connection_check_interval).
	waitForScan = `select set_config('statement_timeout', '15min', true)`
	unmarkFrom  = `update payments set status = 'created', sent_at = null, kafka_offset = null
	where partition = $1 and status = 'sent' and kafka_offset >= $2`
)

// UnmarkFrom takes back the marks at and beyond an offset, whose records are lost, and returns how
// many there were. The one place where a status goes back: an operator decided that these payments
// be sent again. The generation rises with it, so that no owner passes them over: see floor.
func (c *Claim) UnmarkFrom(ctx context.Context, offset int64) (int64, error) {
	if _, err := c.conn.Exec(ctx, waitForScan); err != nil {
		return 0, translate(err)
	}
	tag, err := c.conn.Exec(ctx, unmarkFrom, c.Partition.Number, offset)
	if err != nil {
		return 0, translate(err)
	}
	c.session.floor = floor{}
	return tag.RowsAffected(), c.TakeOver(ctx)
}

const countUnsent = `select count(*) from payments where partition = $1 and status = 'created'`

// Unsent counts the partition's payments that are yet to be sent, however many.
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

// ResumeAt lets a halted partition be sent to again, with the log taken as it is now: the topic's
// id, and the end from which on it is ours.
func (c *Claim) ResumeAt(ctx context.Context, topicID uuid.UUID, nextOffset int64) error {
	_, err := c.conn.Exec(ctx, resumeAt, c.Partition.Number, topicID, nextOffset)
	return translate(err)
}
