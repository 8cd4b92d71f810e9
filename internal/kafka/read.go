package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	fetchBytesMax = 4 << 20 // Of one answer; a batch that is larger still comes whole.
	fetchWait     = 500     // Milliseconds that the broker may wait for a first byte.
	// fetchTriesMax bounds the answers in a row, refusals or nothing new, after which reading gives up; each try asks who leads the partition now.
	fetchTriesMax = 20
)

// Record is a committed record of the topic.
type Record struct {
	Offset int64
	At     time.Time // When its producer published it.
	Event
}

// Read hands the committed records of a partition whose offsets are from ≤ offset < to, in order, to each; one answer of the broker is in memory at a time. It
// returns nil only once the position has reached to: an end that does not come is an error, never taken for the end of the log. Positions and
// not records are counted, since aborted records and transaction markers take offsets that nobody is shown.
func (c *Cluster) Read(ctx context.Context, topic string, partition int32, from, to int64, each func(Record) error) error {
	for vain := 0; from < to; {
		fetched, next, err := c.fetch(ctx, topic, partition, from, fetchWait)
		switch {
		case err != nil && (vain == fetchTriesMax || !kerr.IsRetriable(err) || ctx.Err() != nil):
			return fmt.Errorf("read %s/%d at offset %d: %w", topic, partition, from, explain(err, mayRead(topic)))
		case err != nil:
			vain++
			if err := sleep(ctx, askTimeout/fetchTriesMax); err != nil {
				return err
			}
			continue
		}
		for _, r := range fetched.Records {
			if r.Offset >= to {
				return nil
			}
			if err := each(record(r)); err != nil {
				return err
			}
		}
		if next <= from { // Nothing yet: the end that the caller knows is not visible here.
			err := errInvisible
			if vain++; vain <= fetchTriesMax {
				err = sleep(ctx, askTimeout/fetchTriesMax)
			}
			if err != nil {
				return fmt.Errorf("read %s/%d at offset %d of %d: %w", topic, partition, from, to, err)
			}
			continue
		}
		vain, from = 0, next
	}
	return nil
}

// errInvisible says that the log goes further than a read_committed consumer gets to see: a transaction is open.
var errInvisible = errors.New("nothing is to be seen here: a transaction is open")

func record(r *kgo.Record) Record {
	return Record{Offset: r.Offset, At: r.Timestamp, Event: Event{Key: r.Key, Value: r.Value, Headers: r.Headers}}
}

// fetch asks the partition's leader for what is at from, read_committed, and returns the offset to go on from. A plain request rather than a consumer: the
// answer tells the position also where every record of it was filtered out.
func (c *Cluster) fetch(ctx context.Context, topic string, partition int32, from int64, wait int32) (kgo.FetchPartition, int64, error) {
	leader, id, err := c.leader(ctx, topic, partition)
	if err != nil {
		return kgo.FetchPartition{}, from, err
	}
	ask := kmsg.NewFetchRequestTopicPartition()
	ask.Partition, ask.FetchOffset, ask.PartitionMaxBytes = partition, from, fetchBytesMax
	askTopic := kmsg.NewFetchRequestTopic()
	askTopic.Topic, askTopic.TopicID, askTopic.Partitions = topic, id, []kmsg.FetchRequestTopicPartition{ask}
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes, request.IsolationLevel, request.SessionEpoch = wait, 1, fetchBytesMax, 1, -1
	request.Topics = []kmsg.FetchRequestTopic{askTopic}
	answer, err := request.RequestWith(ctx, c.client.Broker(int(leader)))
	if err != nil {
		return kgo.FetchPartition{}, from, err
	}
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return kgo.FetchPartition{}, from, err
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return kgo.FetchPartition{}, from, errNotListed
	}
	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: topic, Partition: partition,
	}, &answer.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return fetched, next, fetched.Err
}

// leader says who leads the partition, by metadata that the client keeps fresh.
func (c *Cluster) leader(ctx context.Context, topic string, partition int32) (broker int32, id kadm.TopicID, err error) {
	metadata, err := c.admin.Metadata(ctx, topic)
	if err != nil {
		return 0, id, err
	}
	detail := metadata.Topics[topic]
	p, ok := detail.Partitions[partition]
	if err := errors.Join(detail.Err, p.Err); err != nil || !ok {
		return 0, id, errors.Join(err, errNotListed)
	}
	return p.Leader, detail.ID, nil
}
