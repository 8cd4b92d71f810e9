package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What ListOffsets is asked for, and as which consumer. Source: https://kafka.apache.org/protocol#The_Messages_ListOffsets
const (
	latest, earliest       = int64(-1), int64(-2)
	uncommitted, committed = int8(0), int8(1)
)

// listOffset asks for one offset of one partition: a client knows who leads it, a broker is asked by whoever does.
func listOffset(ctx context.Context, whom kmsg.Requestor, topic string, partition int32, which int64, isolation int8) (int64, error) {
	ask := kmsg.NewListOffsetsRequestTopicPartition()
	ask.Partition, ask.Timestamp = partition, which
	askTopic := kmsg.NewListOffsetsRequestTopic()
	askTopic.Topic, askTopic.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{ask}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.IsolationLevel, request.Topics = -1, isolation, []kmsg.ListOffsetsRequestTopic{askTopic} // -1 is a client.
	answer, err := request.RequestWith(ctx, whom)
	if err != nil {
		return 0, err
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return 0, errNotListed
	}
	one := answer.Topics[0].Partitions[0]
	return one.Offset, kerr.ErrorForCode(one.ErrorCode)
}

// Reach returns nil when the partition's leader answers. It is the smallest question that only the leader can answer, and asks no other: that a broker is away is no matter
// of the partitions that others lead.
func (c *Cluster) Reach(ctx context.Context, topic string, partition int32) error {
	leader, _, err := c.leader(ctx, topic, partition)
	if err != nil {
		return fmt.Errorf("leader of %s/%d: %w", topic, partition, err)
	}
	if _, err = listOffset(ctx, c.client.Broker(int(leader)), topic, partition, latest, uncommitted); err != nil {
		return fmt.Errorf("ask broker %d, the leader of %s/%d: %w", leader, topic, partition, err)
	}
	return nil
}
