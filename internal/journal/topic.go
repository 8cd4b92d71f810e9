package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/sleep"
)

const (
	// requestTimeout bounds one request to the brokers with its retries, so that a wrong address is
	// reported soon.
	requestTimeout = 10 * time.Second
	// stallTimeout is how long reading may make no progress before an end that is known to be
	// there. It outlasts the change of a leader, and the moment between a commit and its marker in
	// the log.
	stallTimeout = 30 * time.Second
	// retryPause is the pause before a partition that had nothing new, or an error, is fetched
	// again.
	retryPause = 100 * time.Millisecond

	// fetchBytesMax bounds one response. A batch that is larger still comes whole.
	fetchBytesMax = 4 << 20
	// fetchWaitMillis is how long the broker may wait for a first byte.
	fetchWaitMillis = 500
	// readCommitted is the isolation_level in the protocol.
	readCommitted = 1
)

// Topic is where payments become visible to consumers.
type Topic struct {
	Brokers *brokers.Access
	Name    string
}

// TopicReader reads a topic as a read_committed consumer does.
type TopicReader struct {
	// Client is the Kafka client that the reader uses.
	Client *kgo.Client
	admin  *kadm.Client
	topic  string
}

// Open returns a reader with more options for its client. It contacts no broker.
func (t Topic) Open(more ...kgo.Opt) (*TopicReader, error) {
	if t.Brokers == nil || len(t.Brokers.Addresses) == 0 || t.Name == "" {
		return nil, errors.New("kafka: brokers and a topic are needed")
	}
	kafka, err := kgo.NewClient(slices.Concat(t.Brokers.Options(), []kgo.Opt{
		kgo.ClientID("payclient"), kgo.RetryTimeout(requestTimeout), kgo.DisableClientMetrics(),
	}, more)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return &TopicReader{kafka, kadm.NewClient(kafka), t.Name}, nil
}

// Close closes the connections.
func (r *TopicReader) Close() { r.Client.Close() }

// startOffsets returns the first offset of each partition that is still there.
func (r *TopicReader) startOffsets(ctx context.Context) (map[int32]int64, error) {
	listed, err := r.admin.ListStartOffsets(ctx, r.topic)
	return r.offsets(listed, err)
}

// StableOffsets returns the last stable offset of each partition: below it, no transaction is open.
func (r *TopicReader) StableOffsets(ctx context.Context) (map[int32]int64, error) {
	listed, err := r.admin.ListCommittedOffsets(ctx, r.topic)
	return r.offsets(listed, err)
}

// highWatermarks returns the offset of each partition that the next record gets.
func (r *TopicReader) highWatermarks(ctx context.Context) (map[int32]int64, error) {
	listed, err := r.admin.ListEndOffsets(ctx, r.topic)
	return r.offsets(listed, err)
}

func (r *TopicReader) offsets(listed kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err == nil {
		err = listed.Error()
	}
	if err == nil && len(listed[r.topic]) == 0 {
		err = kerr.UnknownTopicOrPartition
	}
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", r.topic, err)
	}
	offsets := map[int32]int64{}
	for p, o := range listed[r.topic] {
		offsets[p] = o.Offset
	}
	return offsets, nil
}

// read calls each for every committed record of a partition in from ≤ offset < to, in order. It
// returns nil only when it has reached to. It sends fetch requests itself: their responses have the
// next offset even if all records were filtered out, which a consumer does not report.
func (r *TopicReader) read(
	ctx context.Context, partition int32, from, to int64, each func(key []byte, offset int64),
) error {
	progress := time.Now()
	for from < to {
		fetched, next, err := r.fetch(ctx, partition, from)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !kerr.IsRetriable(err) || next <= from && time.Since(progress) > stallTimeout {
			return fmt.Errorf("read %s/%d: at offset %d of %d: %w", r.topic, partition, from, to,
				errors.Join(err, errNoProgress))
		}
		if next <= from {
			if err := sleep.For(ctx, retryPause); err != nil {
				return err
			}
			continue
		}
		for _, record := range fetched.Records {
			if record.Offset < to {
				each(record.Key, record.Offset)
			}
		}
		from, progress = next, time.Now()
	}
	return nil
}

var errNoProgress = errors.New("no progress")

// fetch requests what is at an offset from the partition's leader, and returns the next offset.
func (r *TopicReader) fetch(
	ctx context.Context, partition int32, from int64,
) (fetched kgo.FetchPartition, next int64, err error) {
	metadata, err := r.admin.Metadata(ctx, r.topic) // The client caches it for a while.
	if err != nil {
		return kgo.FetchPartition{}, from, err
	}
	detail := metadata.Topics[r.topic]
	leader := detail.Partitions[partition]
	if err := errors.Join(detail.Err, leader.Err); err != nil {
		return kgo.FetchPartition{}, from, err
	}
	ofPartition := kmsg.NewFetchRequestTopicPartition()
	ofPartition.Partition, ofPartition.FetchOffset, ofPartition.PartitionMaxBytes = partition, from, fetchBytesMax
	ofTopic := kmsg.NewFetchRequestTopic()
	ofTopic.Topic, ofTopic.TopicID = r.topic, detail.ID
	ofTopic.Partitions = []kmsg.FetchRequestTopicPartition{ofPartition}
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = fetchWaitMillis, 1, fetchBytesMax
	request.SessionEpoch, request.IsolationLevel = -1, readCommitted
	request.Topics = []kmsg.FetchRequestTopic{ofTopic}
	response, err := request.RequestWith(ctx, r.Client.Broker(int(leader.Leader)))
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err == nil && (len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1) {
		err = kerr.UnknownTopicOrPartition
	}
	if err != nil {
		return kgo.FetchPartition{}, from, err
	}
	fetched, next = kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: r.topic, Partition: partition,
	}, &response.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return fetched, next, fetched.Err
}
