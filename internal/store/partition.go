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

// Delivery is how a partition's payments are published; see the sender room for what each promises.
type Delivery string

// The delivery modes, spelled as in SQL.
const (
	Locked Delivery = "locked"
	Fenced Delivery = "fenced"
)

// State says whether a partition is sent to. A halted one waits for an operator; the others go on.
type State string

// The states, spelled as in SQL.
const (
	Active State = "active"
	Halted State = "halted"
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
	// Why it is halted; empty while active.
	Reason    string
	ChangedAt time.Time
}

const partitionColumns = ` partition, topic, topic_id, transactional_id, delivery::text, generation, next_offset,
	state::text, coalesce(reason, ''), changed_at `

func scanPartition(row pgx.CollectableRow) (Partition, error) { return scanPartitionAnd(row) }

// scanPartitionAnd scans a row that has more columns than partitionColumns.
func scanPartitionAnd(row pgx.CollectableRow, more ...any) (Partition, error) {
	var p Partition
	var number int16
	targets := []any{&number, &p.Topic, &p.TopicID, &p.TransactionalID, &p.Delivery, &p.Generation, &p.NextOffset,
		&p.State, &p.Reason, &p.ChangedAt}
	err := row.Scan(append(targets, more...)...)
	p.Number = int32(number)
	return p, err
}

// What operators are told about partitions.
var (
	ErrTopicIsSetUp = errors.New("the topic's partitions are in the database already")
	ErrNoPartition  = errors.New("there is no such partition, or it is in that state already")
)

const insertPartition = `insert into topic_partitions (partition, topic, topic_id, transactional_id, delivery,
	next_offset) values ($1, $2, $3, $4, $5, $6)`

// InitPartitions records the topic and, for each of its partitions, the offset from which it is
// ours: ends[i] is partition i's. All or nothing; ErrTopicIsSetUp when it was done before, by this
// caller or another.
func (s *Store) InitPartitions(ctx context.Context, topic string, topicID uuid.UUID, delivery Delivery,
	ends []int64) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		return addPartitions(ctx, tx, topic, topicID, delivery, 0, ends)
	})
	if violates(err, "topic_partitions_partition_is_unique") {
		return ErrTopicIsSetUp
	}
	return err
}

// newTransactionalID is never used twice: whoever holds an old one cannot fence, or be taken for,
// the holder of a new one.
func newTransactionalID(topic string, partition int) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // Never fails: crypto/rand ends the process instead.
	return fmt.Sprintf("%s-%d-%s", topic, partition, hex.EncodeToString(random[:]))
}

const selectPartitions = `select` + partitionColumns + `from topic_partitions order by partition`

// Partitions lists all partitions; none before InitPartitions.
func (s *Store) Partitions(ctx context.Context) ([]Partition, error) {
	return partitionsIn(ctx, s.pool)
}

// Partitions lists all partitions, as the database of the claim has them.
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

// Both wait for the pass that holds the row, at most the batch deadline.
const (
	haltPartition = `update topic_partitions set state = 'halted', reason = $2, changed_at = now()
		where partition = $1 and state = 'active'`
	resumePartition = `update topic_partitions set state = 'active', reason = null, changed_at = now()
		where partition = $1 and state = 'halted'`
)

// Halt stops emission to a partition: when it returns, no pass is under way there, and none begins.
func (s *Store) Halt(ctx context.Context, partition int32, reason string) error {
	return s.changeState(ctx, haltPartition, partition, reason)
}

// Resume lets a halted partition be sent to again, after an operator has looked why it halted.
func (s *Store) Resume(ctx context.Context, partition int32) error {
	return s.changeState(ctx, resumePartition, partition)
}

func (s *Store) changeState(ctx context.Context, sql string, args ...any) error {
	var changed int64
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, waitForClaim); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sql, args...)
		changed = tag.RowsAffected()
		return err
	})
	if err != nil {
		return err
	}
	if changed == 0 {
		return ErrNoPartition
	}
	return nil
}

// backlogMax bounds what is counted per partition: a count over millions of rows would itself be a
// load.
const backlogMax = 10_000

// Backlog is what waits in one partition.
type Backlog struct {
	Partition int32
	State     State
	// At most backlogMax.
	Unsent int64
	// Of the payment that is sent next; 0 when nothing waits.
	OldestSeq int64
	// Zero when nothing waits, and while the clock is behind the time of creation.
	OldestAge time.Duration
}

// Served by payments_unsent: a bounded range for the count, its first entry for the age. Both are
// ordered, so that PostgreSQL does not collect all that waits first.
const selectBacklog = `select tp.partition, tp.state::text,
		(select count(*) from (select from payments p where p.partition = tp.partition and p.status = 'created'
			order by p.partition, p.seq limit $1) as unsent),
		coalesce(extract(epoch from now() - oldest.created_at), 0)::float8, coalesce(oldest.seq, 0)
	from topic_partitions tp left join lateral (select p.created_at, p.seq from payments p
		where p.partition = tp.partition and p.status = 'created' order by p.partition, p.seq limit 1) as oldest on true
	order by tp.partition`

// Backlog tells, for each partition, how much waits and for how long.
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
