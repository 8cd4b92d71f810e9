package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// errGateClosed is returned for a payment that was neither stored nor found, while partitions are
// being added. The same call made again stores it.
var errGateClosed = fmt.Errorf("%w: no payment is stored for a moment, while partitions are added",
	payment.ErrUnavailable)

// CreateGate keeps all replicas from storing payments until Open. The session holds the lock.
// However the session ends, the gate is open. Not safe for concurrent use.
type CreateGate struct{ conn *pgx.Conn }

const (
	// While the gate is closed, the operator requests partitions from Kafka, with its own timeouts.
	idleWhileClosed = `select set_config('idle_session_timeout', '60s', false)`
	lockGate        = `select pg_advisory_lock($1, 0)`
)

// CloseCreateGate closes the gate and waits for the creates in progress.
func (s *Store) CloseCreateGate(ctx context.Context) (*CreateGate, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*queryTimeout) // To connect, and for the lock.
	defer cancel()
	conn, err := s.dedicated(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, idleWhileClosed)
	if err == nil {
		_, err = conn.Exec(ctx, lockGate, lockClassGate)
	}
	if err != nil {
		closeConn(conn)
		return nil, translate(err)
	}
	return &CreateGate{conn}, nil
}

// Open opens the gate.
func (g *CreateGate) Open() { closeConn(g.conn) }

const selectUnsentAnywhere = `select exists (select from payments where status = 'created')`

// HasUnsent reports whether any payment is unsent.
func (g *CreateGate) HasUnsent(ctx context.Context) (has bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = g.conn.QueryRow(ctx, selectUnsentAnywhere).Scan(&has)
	return has, translate(err)
}

// Partitions lists all partitions, while the gate is closed.
func (g *CreateGate) Partitions(ctx context.Context) ([]Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return partitionsIn(ctx, g.conn)
}

// ErrGrownConcurrently means that another operator has added partitions first.
var ErrGrownConcurrently = errors.New("another operator has added partitions at the same time")

// AddPartitions records more partitions of the topic, the first of which has the number from.
// nexts[i] is the offset from which the log of partition from+i is ours. All or nothing; on record
// once it returns nil. The same transaction ends the operation o; it is nil if nothing was done
// outside PostgreSQL. It returns ErrGrownConcurrently if one of the partitions exists.
func (g *CreateGate) AddPartitions(ctx context.Context, o *Operation, topic string, topicID uuid.UUID,
	delivery Delivery, from int32, nexts []int64,
) error {
	ctx, cancel := context.WithTimeout(ctx, RecordTimeout)
	defer cancel()
	tx, err := g.conn.Begin(ctx)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := addPartitions(ctx, tx, topic, topicID, delivery, from, nexts); err != nil {
		if violates(err, "topic_partitions_partition_is_unique") {
			return ErrGrownConcurrently
		}
		return translate(err)
	}
	row, err := o.record(ctx, tx, Change{
		Action: PartitionsGrow, Arguments: TopicArguments{Topic: topic, Partitions: int(from) + len(nexts)},
		Before: TopicState{topicID, int(from)}, After: TopicState{topicID, int(from) + len(nexts)},
	})
	if err != nil {
		return err
	}
	err = confirmed(g.conn, func() error { return tx.Commit(ctx) })
	if err == nil {
		row.announce(ctx)
	}
	return err
}

func addPartitions(ctx context.Context, tx pgx.Tx, topic string, topicID uuid.UUID, delivery Delivery, from int32,
	nexts []int64,
) error {
	for i, next := range nexts {
		number := int(from) + i
		if _, err := tx.Exec(ctx, insertPartition, number, topic, topicID, newTransactionalID(topic, number),
			string(delivery), next); err != nil {
			return err
		}
	}
	return nil
}
