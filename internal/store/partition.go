package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Delivery is how the payments of a partition are published. Package sender describes both modes.
type Delivery string

// The delivery modes, spelled as in SQL.
const (
	DeliveryLocked Delivery = "locked"
	DeliveryFenced Delivery = "fenced"
)

// State says whether payments of a partition are sent. A halted partition waits for an operator;
// the other partitions go on.
type State string

// The states, spelled as in SQL.
const (
	StateActive State = "active"
	StateHalted State = "halted"
)

// Partition is a row of topic_partitions: how far a Kafka partition is emitted, and how.
type Partition struct {
	Number          int32
	Topic           string
	TopicID         uuid.UUID
	TransactionalID string
	Delivery        Delivery
	Generation      int64
	NextOffset      int64
	State           State
	// Reason is why the partition is halted. It is empty while it is active.
	Reason    string
	ChangedAt time.Time
}

const partitionColumns = ` partition, topic, topic_id, transactional_id, delivery::text, generation, next_offset,
	state::text, coalesce(reason, ''), changed_at `

func scanPartition(row pgx.CollectableRow) (Partition, error) { return scanPartitionAnd(row) }

// scanPartitionAnd scans a row with more columns than partitionColumns.
func scanPartitionAnd(row pgx.CollectableRow, more ...any) (Partition, error) {
	var p Partition
	var number int16
	targets := []any{
		&number, &p.Topic, &p.TopicID, &p.TransactionalID, &p.Delivery, &p.Generation, &p.NextOffset,
		&p.State, &p.Reason, &p.ChangedAt,
	}
	err := row.Scan(append(targets, more...)...)
	p.Number = int32(number)
	return p, err
}

// Errors of operators' commands about partitions.
var (
	ErrTopicIsSetUp = errors.New("the topic's partitions are in the database already")
	ErrNoPartition  = errors.New("there is no such partition, or it is in that state already")
)

const insertPartition = `insert into topic_partitions (partition, topic, topic_id, transactional_id, delivery,
	next_offset) values ($1, $2, $3, $4, $5, $6)`

// InitPartitions records the topic and its partitions. ends[i] is the offset from which partition i
// is ours. All or nothing; on record once it returns nil. It returns ErrTopicIsSetUp if it was done
// before, by this caller or another.
func (s *Store) InitPartitions(ctx context.Context, topic string, topicID uuid.UUID, delivery Delivery,
	ends []int64,
) error {
	return s.InitPartitionsEnding(ctx, nil, topic, topicID, delivery, ends)
}

// InitPartitionsEnding is like InitPartitions, and ends the operation o in the same transaction; o
// is nil if nothing was done outside PostgreSQL.
func (s *Store) InitPartitionsEnding(ctx context.Context, o *Operation, topic string, topicID uuid.UUID,
	delivery Delivery, ends []int64,
) error {
	var row logged
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		err := addPartitions(ctx, tx, topic, topicID, delivery, 0, ends)
		if err == nil {
			row, err = o.record(ctx, tx, Change{
				Action: PartitionsInit, Arguments: TopicArguments{topic, len(ends), delivery},
				After: TopicState{topicID, len(ends)},
			})
		}
		return err
	})
	if err == nil {
		row.announce(ctx)
	}
	if violates(err, "topic_partitions_partition_is_unique") {
		return ErrTopicIsSetUp
	}
	return err
}

// newTransactionalID returns an id that is never used twice. The holder of an old id cannot fence
// the holder of a new one, or be taken for it.
func newTransactionalID(topic string, partition int) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // It never fails: crypto/rand ends the process instead.
	return fmt.Sprintf("%s-%d-%s", topic, partition, hex.EncodeToString(random[:]))
}

const selectPartitions = `select` + partitionColumns + `from topic_partitions order by partition`

// Partitions lists all partitions. There are none before InitPartitions.
func (s *Store) Partitions(ctx context.Context) ([]Partition, error) {
	return partitionsIn(ctx, s.pool)
}

// Partitions lists all partitions in the database of the claim.
func (c *Claim) Partitions(ctx context.Context) ([]Partition, error) {
	return partitionsIn(ctx, c.conn)
}

func partitionsIn(ctx context.Context, q querier) ([]Partition, error) {
	rows, err := q.Query(ctx, selectPartitions)
	if err != nil {
		return nil, translate(err)
	}
	partitions, err := pgx.CollectRows(rows, scanPartition)
	return partitions, translate(err)
}

// Both wait for the batch that holds the row, at most as long as waitForClaim says.
const (
	haltPartition = `update topic_partitions set state = 'halted', reason = $2, changed_at = now()
		where partition = $1 and state = 'active'`
	resumePartition = `update topic_partitions set state = 'active', reason = null, changed_at = now()
		where partition = $1 and state = 'halted'`
)

// Halt halts a partition with a reason. Once it returns nil that is on record, no batch is in
// progress there, and none begins. It returns ErrNoPartition if the partition is not active.
func (s *Store) Halt(ctx context.Context, partition int32, reason string) error {
	return s.changeState(ctx, "partitions halt", partition, StateHalted, haltPartition, partition, reason)
}

// Resume makes a halted partition active again, after an operator has found out why it was halted.
// It returns ErrNoPartition if the partition is not halted.
func (s *Store) Resume(ctx context.Context, partition int32) error {
	return s.changeState(ctx, PartitionsResume, partition, StateActive, resumePartition, partition)
}

// selectStateBefore locks the partition's row, so that the state is the one that is changed.
const selectStateBefore = `select state::text, changed_at from topic_partitions where partition = $1 for update`

func (s *Store) changeState(
	ctx context.Context, action string, partition int32, to State, sql string, args ...any,
) error {
	err := s.changeLogged(ctx, func(tx pgx.Tx) (c Change, err error) {
		var before partitionState
		if _, err := tx.Exec(ctx, waitForClaim); err != nil {
			return c, err
		}
		if err := tx.QueryRow(ctx, selectStateBefore, partition).Scan(&before.State, &before.Since); err != nil {
			return c, err
		}
		changed, err := tx.Exec(ctx, sql, args...)
		if err == nil && changed.RowsAffected() == 0 {
			err = errUnchanged
		}
		return Change{
			Action: action, Arguments: PartitionArguments{Partition: partition},
			Before: before, After: partitionState{State: to},
		}, err
	})
	if errors.Is(err, errUnchanged) || errors.Is(err, pgx.ErrNoRows) {
		return ErrNoPartition
	}
	return err
}

// backlogMax bounds what is counted for each partition. To count millions of rows would be a load
// of its own.
const backlogMax = 10_000

// Backlog is what waits in one partition.
type Backlog struct {
	Partition int32
	State     State
	// Unsent is at most backlogMax.
	Unsent int64
	// OldestSeq is the seq of the payment that is sent next; 0 if none waits.
	OldestSeq int64
	// OldestAge is zero if none waits, and while the database's clock is behind the time of
	// creation.
	OldestAge time.Duration
}

// selectBacklog is served by payments_unsent: a bounded range for the count, and its first entry
// for the age. Both are ordered, so that PostgreSQL does not first collect all that waits.
const selectBacklog = `select tp.partition, tp.state::text,
		(select count(*) from (select from payments p where p.partition = tp.partition and p.status = 'created'
			order by p.partition, p.seq limit $1) as unsent),
		coalesce(extract(epoch from now() - oldest.created_at), 0)::float8, coalesce(oldest.seq, 0)
	from topic_partitions tp left join lateral (select p.created_at, p.seq from payments p
		where p.partition = tp.partition and p.status = 'created' order by p.partition, p.seq limit 1) as oldest on true
	order by tp.partition`

// Backlog returns how many payments of each partition wait, and for how long.
func (s *Store) Backlog(ctx context.Context) ([]Backlog, error) {
	rows, err := s.pool.Query(ctx, selectBacklog, backlogMax)
	if err != nil {
		return nil, translate(err)
	}
	backlog, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Backlog, error) {
		var b Backlog
		var number int16
		var seconds float64
		err := row.Scan(&number, &b.State, &b.Unsent, &seconds, &b.OldestSeq)
		b.Partition, b.OldestAge = int32(number), time.Duration(max(seconds, 0)*float64(time.Second))
		return b, err
	})
	return backlog, translate(err)
}
