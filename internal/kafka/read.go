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

	"github.com/paylatch/paylatch/internal/sleep"
)

const (
	// fetchBytesMax bounds one response. A batch that is larger is still returned whole.
	fetchBytesMax = 4 << 20
	// fetchWaitMillis is how long the broker may wait for a first byte.
	fetchWaitMillis = 500
	// fetchTriesMax bounds the fetches in a row that fail or return nothing new. Each one looks up
	// the leader of the partition again.
	fetchTriesMax = 20
)

// Record is a committed record of the topic.
type Record struct {
	Offset int64
	// At is when its producer published it.
	At time.Time
	Event
}

// Read calls each with the committed records of a partition whose offsets are from ≤ offset < to,
// in order. One response of the broker is in memory at a time.
//
// Read returns nil only if its position has reached to. If it does not, Read returns an error, and
// never takes that for the end of the log. It counts positions and not records: aborted records and
// transaction markers have offsets, too, but are not returned.
func (c *Cluster) Read(
	ctx context.Context, topic string, partition int32, from, to int64, each func(Record) error,
) error {
	for failures := 0; from < to; {
		fetched, next, err := c.fetch(ctx, topic, partition, from, fetchWaitMillis)
		switch {
		case err != nil && (failures == fetchTriesMax || !kerr.IsRetriable(err) || ctx.Err() != nil):
			return fmt.Errorf("read %s/%d at offset %d: %w", topic, partition, from, explain(err, mayRead(topic)))
		case err != nil:
			failures++
			if err := sleep.For(ctx, requestTimeout/fetchTriesMax); err != nil {
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
		if next <= from { // The end that the caller knows is not visible to a consumer yet.
			failures++
			err := errInvisible
			if failures <= fetchTriesMax {
				err = sleep.For(ctx, requestTimeout/fetchTriesMax)
			}
			if err != nil {
				return fmt.Errorf("read %s/%d at offset %d of %d: %w", topic, partition, from, to, err)
			}
			continue
		}
		failures, from = 0, next
	}
	return nil
}

// errInvisible is returned if an open transaction hides the rest of the log from read_committed
// consumers.
var errInvisible = errors.New("nothing is visible here: a transaction is open")

func record(r *kgo.Record) Record {
	return Record{Offset: r.Offset, At: r.Timestamp, Event: Event{Key: r.Key, Value: r.Value, Headers: r.Headers}}
}

// fetch requests the records at from from the leader of the partition, as a read_committed
// consumer. It returns the offset to continue from.
//
// It sends a plain request instead of using a consumer: the response contains the position even if
// all records were filtered out.
func (c *Cluster) fetch(
	ctx context.Context, topic string, partition int32, from int64, waitMillis int32,
) (kgo.FetchPartition, int64, error) {
	leader, id, err := c.leader(ctx, topic, partition)
	if err != nil {
		return kgo.FetchPartition{}, from, err
	}
	response, err := fetchRequest(topic, id, partition, from, waitMillis).RequestWith(ctx, c.client.Broker(int(leader)))
	if err != nil {
		return kgo.FetchPartition{}, from, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return kgo.FetchPartition{}, from, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return kgo.FetchPartition{}, from, errNotListed
	}
	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: topic, Partition: partition,
	}, &response.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return fetched, next, fetched.Err
}

func fetchRequest(topic string, id kadm.TopicID, partition int32, from int64, waitMillis int32) *kmsg.FetchRequest {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, from, fetchBytesMax
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = topic, id, []kmsg.FetchRequestTopicPartition{p}
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = waitMillis, 1, fetchBytesMax
	request.IsolationLevel, request.SessionEpoch = committed, -1 // Epoch -1 is no session.
	request.Topics = []kmsg.FetchRequestTopic{t}
	return request
}

// leader returns the leader of the partition and the id of the topic, from the metadata that the
// client keeps.
func (c *Cluster) leader(
	ctx context.Context, topic string, partition int32,
) (broker int32, id kadm.TopicID, err error) {
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
