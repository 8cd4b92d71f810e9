package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Timestamps and isolation levels of ListOffsets.
// Source: https://kafka.apache.org/protocol#The_Messages_ListOffsets
const (
	latest, earliest       = int64(-1), int64(-2)
	uncommitted, committed = int8(0), int8(1)
)

// listOffset returns one offset of one partition. If to is a client, the request goes to the leader
// that the client knows. If it is a broker, the caller has looked up the leader.
func listOffset(
	ctx context.Context, to kmsg.Requestor, topic string, partition int32, timestamp int64, isolation int8,
) (int64, error) {
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, timestamp
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{p}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.IsolationLevel = -1, isolation // Replica -1 is a client.
	request.Topics = []kmsg.ListOffsetsRequestTopic{t}
	response, err := request.RequestWith(ctx, to)
	if err != nil {
		return 0, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return 0, errNotListed
	}
	one := response.Topics[0].Partitions[0]
	return one.Offset, kerr.ErrorForCode(one.ErrorCode)
}

// Ping returns nil if the leader of the partition responds. It sends one ListOffsets request,
// which only the leader can serve. So an outage of another broker does not matter.
func (c *Cluster) Ping(ctx context.Context, topic string, partition int32) error {
	leader, _, err := c.leader(ctx, topic, partition)
	if err != nil {
		return fmt.Errorf("leader of %s/%d: %w", topic, partition, err)
	}
	_, err = listOffset(ctx, c.client.Broker(int(leader)), topic, partition, latest, uncommitted)
	if err != nil {
		return fmt.Errorf("request to broker %d, the leader of %s/%d: %w", leader, topic, partition, err)
	}
	return nil
}
