package payclient

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
	kafkaDialTimeout = 3 * time.Second
	// kafkaAskTimeout bounds one question to the brokers with its retries, so that a wrong address is told and not waited for.
	kafkaAskTimeout = 10 * time.Second
	// topicStallMax is how long reading may stand still before an end that is known to be there. It outlasts a leader's change, and the moment between
	// the answer to a commit and its marker in the log.
	topicStallMax = 30 * time.Second
	// topicAgain is the pause before a partition that had nothing new, or an error, is asked again.
	topicAgain = 100 * time.Millisecond

	fetchBytesMax     = 4 << 20 // of one answer; a batch that is larger still comes whole
	fetchWaitMillis   = 500     // that the broker may wait for a first byte
	readCommittedWire = 1       // isolation_level of the protocol
)

// Topic is where payments become visible.
type Topic struct {
	Brokers []string // host:port
	Name    string
}

// topicReader reads a topic as a read_committed consumer does. With franz-go, since that filters aborted records.
type topicReader struct {
	client *kgo.Client
	admin  *kadm.Client
	topic  string
}

// open contacts nobody.
func (t Topic) open(more ...kgo.Opt) (*topicReader, error) {
	if len(t.Brokers) == 0 || t.Name == "" {
		return nil, errors.New("kafka: brokers and a topic are needed")
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(t.Brokers...), kgo.ClientID("payclient"), kgo.DialTimeout(kafkaDialTimeout), kgo.RetryTimeout(kafkaAskTimeout),
		kgo.DisableClientMetrics(),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return &topicReader{client, kadm.NewClient(client), t.Name}, nil
}

func (r *topicReader) close() { r.client.Close() }

// starts are the first offsets that are still there.
func (r *topicReader) starts(ctx context.Context) (map[int32]int64, error) {
	listed, err := r.admin.ListStartOffsets(ctx, r.topic)
	return r.offsets(listed, err)
}

// stableEnds are the ends for a read_committed consumer: below them every transaction is decided.
func (r *topicReader) stableEnds(ctx context.Context) (map[int32]int64, error) {
	listed, err := r.admin.ListCommittedOffsets(ctx, r.topic)
	return r.offsets(listed, err)
}

// highWatermarks are the offsets that the next records get.
func (r *topicReader) highWatermarks(ctx context.Context) (map[int32]int64, error) {
	listed, err := r.admin.ListEndOffsets(ctx, r.topic)
	return r.offsets(listed, err)
}

func (r *topicReader) offsets(listed kadm.ListedOffsets, err error) (map[int32]int64, error) {
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

// read hands the key and the offset of each committed record of a partition in from ≤ offset < to, in order, to each. It returns nil only once it has
// reached to. By plain requests rather than as a consumer: their answers tell the position also where all that was there is filtered out.
func (r *topicReader) read(ctx context.Context, partition int32, from, to int64, each func(key []byte, offset int64)) error {
	moved := time.Now()
	for from < to {
		fetched, next, err := r.fetch(ctx, partition, from)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !kerr.IsRetriable(err) || next <= from && time.Since(moved) > topicStallMax {
			return fmt.Errorf("read %s/%d: at offset %d of %d: %w", r.topic, partition, from, to, errors.Join(err, errNoProgress))
		}
		if next <= from {
			if err := sleep(ctx, topicAgain); err != nil {
				return err
			}
			continue
		}
		for _, record := range fetched.Records {
			if record.Offset < to {
				each(record.Key, record.Offset)
			}
		}
		from, moved = next, time.Now()
	}
	return nil
}

var errNoProgress = errors.New("the log does not go on")

// fetch asks the partition's leader for what is at from, and returns the offset to go on from.
func (r *topicReader) fetch(ctx context.Context, partition int32, from int64) (kgo.FetchPartition, int64, error) {
	metadata, err := r.admin.Metadata(ctx, r.topic) // The client keeps it for a while.
	if err != nil {
		return kgo.FetchPartition{}, from, err
	}
	detail := metadata.Topics[r.topic]
	at := detail.Partitions[partition]
	if err := errors.Join(detail.Err, at.Err); err != nil {
		return kgo.FetchPartition{}, from, err
	}
	ask := kmsg.NewFetchRequestTopicPartition()
	ask.Partition, ask.FetchOffset, ask.PartitionMaxBytes = partition, from, fetchBytesMax
	askTopic := kmsg.NewFetchRequestTopic()
	askTopic.Topic, askTopic.TopicID, askTopic.Partitions = r.topic, detail.ID, []kmsg.FetchRequestTopicPartition{ask}
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes, request.SessionEpoch = fetchWaitMillis, 1, fetchBytesMax, -1
	request.IsolationLevel, request.Topics = readCommittedWire, []kmsg.FetchRequestTopic{askTopic}
	answer, err := request.RequestWith(ctx, r.client.Broker(int(at.Leader)))
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err == nil && (len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1) {
		err = kerr.UnknownTopicOrPartition
	}
	if err != nil {
		return kgo.FetchPartition{}, from, err
	}
	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: r.topic, Partition: partition,
	}, &answer.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return fetched, next, fetched.Err
}
