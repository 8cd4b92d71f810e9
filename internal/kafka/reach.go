package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// latest asks ListOffsets for the end.
const latest = -1

// Reach returns nil when the partition's leader answers. It is the smallest question that only the leader can answer, and asks no other: that a broker is away is no matter
// of the partitions that others lead.
func (c *Cluster) Reach(ctx context.Context, topic string, partition int32) error {
	leader, _, err := c.leader(ctx, topic, partition)
	if err != nil {
		return fmt.Errorf("leader of %s/%d: %w", topic, partition, err)
	}
	ask := kmsg.NewListOffsetsRequestTopicPartition()
	ask.Partition, ask.Timestamp = partition, latest
	askTopic := kmsg.NewListOffsetsRequestTopic()
	askTopic.Topic, askTopic.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{ask}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.Topics = -1, []kmsg.ListOffsetsRequestTopic{askTopic} // -1 is a client.
	answer, err := request.RequestWith(ctx, c.client.Broker(int(leader)))
	if err == nil {
		err = errNotListed
		if len(answer.Topics) == 1 && len(answer.Topics[0].Partitions) == 1 {
			err = kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
		}
	}
	if err != nil {
		return fmt.Errorf("ask broker %d, the leader of %s/%d: %w", leader, topic, partition, err)
	}
	return nil
}
