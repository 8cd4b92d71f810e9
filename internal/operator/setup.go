package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sleep"
	"github.com/paylatch/paylatch/internal/store"
)

// Topic is the topic to set up.
type Topic struct {
	Name        string
	Partitions  int32
	Replication int16
	Delivery    store.Delivery
	// FromEnd accepts a topic that holds records already: what is below its present end is not
	// ours.
	FromEnd bool
}

// topicTimeout bounds the wait until all brokers know a topic that was just created.
const topicTimeout = 30 * time.Second

// ErrHoldsRecords means that a topic is in use already.
var ErrHoldsRecords = errors.New(
	"the topic holds records already: payments need a topic of their own; --from-end if these may stay")

// InitPartitions creates the topic if it is absent, and records its partitions, from their present
// ends. It fails with store.ErrTopicIsSetUp if the installation has a topic.
func InitPartitions(ctx context.Context, s *store.Store, cluster *kafka.Cluster, topic Topic) error {
	recorded, err := s.Partitions(ctx)
	if err != nil {
		return err
	}
	if len(recorded) > 0 {
		return fmt.Errorf("%w: topic %s with %d", store.ErrTopicIsSetUp, recorded[0].Topic, len(recorded))
	}
	logged, err := createTopic(ctx, s, cluster, topic)
	if err != nil {
		return err
	}
	return end(ctx, s, logged, recordTopic(ctx, s, cluster, topic, logged), false)
}

// createTopic creates the topic unless it exists. If it does not, the operator's log has a row
// before it is created, and the operation is returned.
func createTopic(
	ctx context.Context, s *store.Store, cluster *kafka.Cluster, topic Topic,
) (*store.Operation, error) {
	if has, err := cluster.HasTopic(ctx, topic.Name); has || err != nil {
		return nil, err
	}
	logged, err := s.BeginOperation(ctx, store.Change{
		Action:    store.PartitionsInit,
		Arguments: store.TopicArguments{Topic: topic.Name, Partitions: int(topic.Partitions), Delivery: topic.Delivery},
	})
	if err != nil {
		return nil, err
	}
	if err := cluster.CreateTopic(ctx, topic.Name, topic.Partitions, topic.Replication); err != nil {
		return nil, end(ctx, s, logged, err, kafka.Refused(err))
	}
	return logged, nil
}

// recordTopic records the partitions of a topic that exists, and that the operation has ended.
func recordTopic(
	ctx context.Context, s *store.Store, cluster *kafka.Cluster, topic Topic, logged *store.Operation,
) error {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	ranges, err := awaitPartitions(ctx, cluster, topic.Name, topic.Partitions)
	if err != nil {
		return err
	}
	described, err := cluster.Topic(ctx, topic.Name)
	if err != nil {
		return err
	}
	if faults := described.Faults(int(topic.Partitions)); len(faults) > 0 {
		return fmt.Errorf("the topic is not fit for payments: %s", strings.Join(faults, "; "))
	}
	ends := make([]int64, len(ranges))
	for i, r := range ranges {
		ends[i] = r.End
		if r.End > 0 && !topic.FromEnd {
			return fmt.Errorf("topic %s, partition %d, end offset %d: %w", topic.Name, i, r.End, ErrHoldsRecords)
		}
	}
	return s.InitPartitionsEnding(ctx, logged, topic.Name, described.ID, topic.Delivery, ends)
}

// awaitPartitions reads the topic's ranges until it has as many partitions and all have leaders,
// which takes a moment after they are created. A topic with more is returned as it is.
func awaitPartitions(
	ctx context.Context, cluster *kafka.Cluster, topic string, partitions int32,
) ([]kafka.Range, error) {
	const retry = 100 * time.Millisecond
	for {
		ranges, err := cluster.Ranges(ctx, topic)
		if err == nil && len(ranges) >= int(partitions) {
			return ranges, nil
		}
		if sleep.For(ctx, retry) != nil {
			return nil, cmp.Or(err, fmt.Errorf("topic %s has %d partitions, not %d", topic, len(ranges), partitions))
		}
	}
}

// Found describes the topic that EnsureTopic found or created.
type Found struct {
	Topic      string
	Partitions int
	Delivery   store.Delivery // Of the first partition: `partitions mode` may have changed some.
	Created    bool
}

// EnsureTopic creates the topic and records its partitions, unless that was done before. It refuses
// an installation with a topic of another name. Partitions and delivery may differ from those
// given: `partitions grow` and `partitions mode` change them.
func EnsureTopic(ctx context.Context, s *store.Store, cluster *kafka.Cluster, topic Topic) (f Found, err error) {
	err = InitPartitions(ctx, s, cluster, topic)
	f.Created = err == nil
	if err != nil && !errors.Is(err, store.ErrTopicIsSetUp) {
		return f, err
	}
	recorded, err := s.Partitions(ctx)
	if err != nil {
		return f, err
	}
	first := recorded[0]
	if first.Topic != topic.Name {
		return f, fmt.Errorf("this installation has topic %s, not %s: one installation has one topic; "+
			"use --topic %s, or another database", first.Topic, topic.Name, first.Topic)
	}
	f.Topic, f.Partitions, f.Delivery = first.Topic, len(recorded), first.Delivery
	return f, nil
}
