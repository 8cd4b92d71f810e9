package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// PartitionsMax bounds the partitions: senders have a database session for each.
const PartitionsMax = 1000

// GrowPartitions adds partitions until there are to of them. An account's payments may go to
// another partition from then on, so nothing may be left to be sent in the one before: the intake
// is closed until the senders have sent all, at most for drainTimeout, and while the partitions are
// recorded. It returns for how long.
//
// A failure may leave a topic with more partitions than the database knows. Nothing is sent to the
// additional ones, and the same command goes on from there. If they hold records, the database was
// restored from a copy that is older than the growth. All that the copy holds unsent was sent
// before, so there is nothing to wait for.
func GrowPartitions(
	ctx context.Context, s *store.Store, cluster *kafka.Cluster, to int32, drainTimeout time.Duration,
) (closed time.Duration, err error) {
	there, err := mayGrow(ctx, s, to)
	if err != nil {
		return 0, err
	}
	first, from := there[0], int32(len(there))
	has, err := topicMayGrow(ctx, cluster, first, to)
	if err != nil {
		return 0, err
	}
	_, restored, _, err := cluster.FirstNonEmpty(ctx, first.Topic, from)
	if err != nil {
		return 0, err
	}

	began := time.Now()
	intake, err := s.CloseCreateGate(ctx)
	if err != nil {
		return 0, err
	}
	defer intake.Open()
	if !restored {
		if err := awaitDrained(ctx, intake, drainTimeout); err != nil {
			return 0, err
		}
	}
	there, err = mayGrow(ctx, intake, to) // Again: partitions may have changed since.
	if err != nil {
		return 0, err
	}
	if len(there) != int(from) {
		return 0, store.ErrGrownConcurrently
	}
	logged, err := growTopic(ctx, s, cluster, there[0], has, from, to)
	if err != nil {
		return 0, err
	}
	if err := end(ctx, s, logged, addPartitions(ctx, intake, cluster, there[0], from, to, logged), false); err != nil {
		return 0, err
	}
	intake.Open()
	closed = time.Since(began)
	s.RequestRebalance(ctx)
	return closed, nil
}

// topicMayGrow returns how many partitions the topic has. It returns an error unless the topic is
// that of the partition and has at most to partitions.
func topicMayGrow(
	ctx context.Context, cluster *kafka.Cluster, first store.Partition, to int32,
) (has int32, err error) {
	topic, err := cluster.Topic(ctx, first.Topic)
	switch {
	case err != nil:
		return 0, err
	case topic.ID != first.TopicID:
		return 0, fmt.Errorf("topic %s is another one than the payments went to: its id is %s, was %s",
			first.Topic, topic.ID, first.TopicID)
	case topic.Partitions > to:
		return 0, fmt.Errorf("topic %s has %d partitions already; partitions are never taken away",
			first.Topic, topic.Partitions)
	}
	return topic.Partitions, nil
}

// growTopic gives the topic to partitions, unless it has them. If it does not, the operator's log
// has a row before that, and the operation is returned.
func growTopic(
	ctx context.Context, s *store.Store, cluster *kafka.Cluster, first store.Partition, has, from, to int32,
) (logged *store.Operation, err error) {
	if has < to {
		logged, err = s.BeginOperation(ctx, store.Change{
			Action:    store.PartitionsGrow,
			Arguments: store.TopicArguments{Topic: first.Topic, Partitions: int(to)},
			Before:    store.TopicState{TopicID: first.TopicID, Partitions: int(from)},
		})
		if err != nil {
			return nil, err
		}
	}
	if err := cluster.GrowTopic(ctx, first.Topic, to); err != nil {
		return nil, end(ctx, s, logged, err, kafka.Refused(err))
	}
	return logged, nil
}

// addPartitions records the partitions of the topic that are new, and that the operation has ended.
// They are like the first.
func addPartitions(
	ctx context.Context, intake *store.CreateGate, cluster *kafka.Cluster, first store.Partition, from, to int32,
	logged *store.Operation,
) error {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	ranges, err := awaitPartitions(ctx, cluster, first.Topic, to)
	if err != nil {
		return err
	}
	starts := make([]int64, 0, to-from) // Not the ends: the takeover judges what is in there.
	for _, r := range ranges[from:to] {
		starts = append(starts, r.Start)
	}
	return intake.AddPartitions(ctx, logged, first.Topic, first.TopicID, first.Delivery, from, starts)
}

// lister lists the partitions.
type lister interface {
	Partitions(ctx context.Context) ([]store.Partition, error)
}

// mayGrow returns the partitions, or why none can be added.
func mayGrow(ctx context.Context, list lister, to int32) ([]store.Partition, error) {
	there, err := list.Partitions(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(there) == 0:
		return nil, store.ErrNoTopic
	case to > PartitionsMax:
		return nil, fmt.Errorf("at most %d partitions: senders have a database session for each", PartitionsMax)
	case int(to) <= len(there):
		return nil, fmt.Errorf("there are %d partitions already; they can only become more", len(there))
	}
	for _, p := range there {
		switch {
		case p.State != store.StateActive:
			return nil, fmt.Errorf("partition %d is halted (%s), and what waits in it could not be sent: resume it "+
				"first",
				p.Number, p.Reason)
		case p.Delivery != there[0].Delivery:
			return nil, fmt.Errorf("partition %d is %s, partition 0 %s: give all the same delivery first "+
				"(`paylatch partitions mode`)", p.Number, p.Delivery, there[0].Delivery)
		}
	}
	return there, nil
}

// awaitDrained waits until nothing is left to be sent.
func awaitDrained(ctx context.Context, intake *store.CreateGate, timeout time.Duration) error {
	over := time.After(timeout) // Not the end of ctx, which would end a query with an error of its own.
	for {
		unsent, err := intake.HasUnsent(ctx)
		if err != nil || !unsent {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return fmt.Errorf("payments still wait to be sent after %s: nothing was changed; "+
				"see `paylatch partitions list`", timeout)
		case <-time.After(drainPoll):
		}
	}
}

// drainPoll is the time between two checks whether all is sent. It also keeps the session from
// being idle.
const drainPoll = 20 * time.Millisecond
