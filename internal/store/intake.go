package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// errIntakeClosed answers a payment that was neither stored nor found: partitions are being added.
// The same call made again stores it.
var errIntakeClosed = fmt.Errorf("%w: the intake is closed for a moment, while partitions are added",
	payment.ErrUnavailable)

// Intake keeps payments from being stored, by any replica, until Open. The lock is its session's:
// if that ends, however it ends, the intake is open. Not safe for concurrent use.
type Intake struct{ conn *pgx.Conn }

const (
	// The operator asks Kafka for partitions meanwhile, which is bounded by its own time-outs.
	idleWhileClosed = `select set_config('idle_session_timeout', '60s', false)`
	lockIntake      = `select pg_advisory_lock($1, 0)`
)

// CloseIntake waits for the creates under way, and closes the intake.
func (s *Store) CloseIntake(ctx context.Context) (*Intake, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askTimeout) // To connect, and to ask.
	defer cancel()
	conn, err := s.dedicated(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, idleWhileClosed)
	if err == nil {
		_, err = conn.Exec(ctx, lockIntake, lockClassIntake)
	}
	if err != nil {
		closeConn(conn)
		return nil, translate(err)
	}
	return &Intake{conn}, nil
}

// Open lets payments be stored again.
func (i *Intake) Open() { closeConn(i.conn) }

const selectUnsentAnywhere = `select exists (select from payments where status = 'created')`

// HasUnsent tells whether any payment is yet to be sent.
func (i *Intake) HasUnsent(ctx context.Context) (has bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = i.conn.QueryRow(ctx, selectUnsentAnywhere).Scan(&has)
	return has, translate(err)
}

// Partitions lists all partitions, while the intake is closed.
func (i *Intake) Partitions(ctx context.Context) ([]Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return partitionsIn(ctx, i.conn)
}

// ErrGrownMeanwhile says that another operator was faster.
var ErrGrownMeanwhile = errors.New("partitions were added meanwhile")

// AddPartitions records more partitions of the topic, numbered on from those there are: nexts[i] is
// the offset from which the log of partition from+i is ours.
func (i *Intake) AddPartitions(ctx context.Context, topic string, topicID uuid.UUID, delivery Delivery, from int32,
	nexts []int64) error {
	ctx, cancel := context.WithTimeout(ctx, RecordTimeout)
	defer cancel()
	tx, err := i.conn.Begin(ctx)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := addPartitions(ctx, tx, topic, topicID, delivery, from, nexts); err != nil {
		if violates(err, "topic_partitions_partition_is_unique") {
			return ErrGrownMeanwhile
		}
		return translate(err)
	}
	return confirmed(i.conn, func() error { return tx.Commit(ctx) })
}

func addPartitions(ctx context.Context, tx pgx.Tx, topic string, topicID uuid.UUID, delivery Delivery, from int32,
	nexts []int64) error {
	for i, next := range nexts {
		number := int(from) + i
		if _, err := tx.Exec(ctx, insertPartition, number, topic, topicID, newTransactionalID(topic, number),
			string(delivery), next); err != nil {
			return err
		}
	}
	return nil
}
