package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// askTimeout bounds the retries of one question to the brokers.
const askTimeout = 5 * time.Second

// Cluster answers questions about the topic. Safe for concurrent use.
type Cluster struct {
	client *kgo.Client
	admin  *kadm.Client
}

// NewCluster returns a cluster behind the brokers; it connects when it is first asked.
func NewCluster(brokers []string) (*Cluster, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.ClientID(clientID), kgo.DialTimeout(dialTimeout), kgo.RetryTimeout(askTimeout),
		kgo.MetadataMinAge(100*time.Millisecond), // A leader that moved is found at once; questions are rare.
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &Cluster{client, kadm.NewClient(client)}, nil
}

// Close closes the connections.
func (c *Cluster) Close() { c.admin.Close() }

// Topic is what a topic is, by metadata read from a broker just now.
type Topic struct {
	Name        string
	ID          uuid.UUID // Kafka's own (KIP-516): a topic made anew under the name has another.
	Partitions  int32
	Replication int // The least over its partitions.
	Configs     map[string]string
	// TransactionVersion is the cluster's transaction.version: from 2 on the broker tells late requests of a transaction from those of the next (KIP-890). 0 when it does not say.
	TransactionVersion int16
}

// ErrNoTopic says that the brokers know no such topic.
var ErrNoTopic = errors.New("the topic does not exist")

// Topic returns the topic with its settings.
func (c *Cluster) Topic(ctx context.Context, name string) (Topic, error) {
	t, err := c.metadata(ctx, name)
	if err != nil {
		return Topic{}, err
	}
	described, err := c.admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return Topic{}, fmt.Errorf("settings of topic %s: %w", name, explain(err, mayDescribeConfigs(name)))
	}
	for _, resource := range described {
		if resource.Err != nil {
			return Topic{}, fmt.Errorf("settings of topic %s: %w", name, explain(resource.Err, mayDescribeConfigs(name)))
		}
		for _, config := range resource.Configs {
			t.Configs[config.Key] = config.MaybeValue()
		}
	}
	t.TransactionVersion, err = c.transactionVersion(ctx)
	return t, err
}

// transactionVersion asks for the finalized feature (KIP-584).
func (c *Cluster) transactionVersion(ctx context.Context) (int16, error) {
	answer, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, c.client)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		return 0, fmt.Errorf("features of the brokers: %w", err)
	}
	for _, feature := range answer.FinalizedFeatures {
		if feature.Name == "transaction.version" {
			return feature.MaxVersionLevel, nil
		}
	}
	return 0, nil
}

func (c *Cluster) metadata(ctx context.Context, name string) (Topic, error) {
	metadata, err := c.admin.Metadata(ctx, name)
	if err == nil && errors.Is(metadata.Topics[name].Err, kerr.UnknownTopicOrPartition) {
		metadata, err = c.admin.Metadata(kadm.WithAuthorizedOps(ctx), name) // Past the cache: it may have been created since.
	}
	if err != nil {
		return Topic{}, fmt.Errorf("metadata of topic %s: %w", name, explain(err, mayDescribe(name)))
	}
	detail := metadata.Topics[name]
	switch {
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		return Topic{}, fmt.Errorf("%s: %w", name, ErrNoTopic)
	case detail.Err != nil:
		return Topic{}, fmt.Errorf("metadata of topic %s: %w", name, explain(detail.Err, mayDescribe(name)))
	}
	t := Topic{Name: name, ID: uuid.UUID(detail.ID), Partitions: int32(len(detail.Partitions)), Configs: map[string]string{}} //nolint:gosec // G115: a count of partitions.
	for _, p := range detail.Partitions {
		if t.Replication == 0 || len(p.Replicas) < t.Replication {
			t.Replication = len(p.Replicas)
		}
	}
	return t, nil
}

// CreateTopic creates the topic as payments need it, unless it exists: then nothing is asked of the brokers that needs
// the right to create. With replication 0 the broker's default is taken; with 3 or more, an append must be on two
// replicas before it is acknowledged.
func (c *Cluster) CreateTopic(ctx context.Context, name string, partitions int32, replication int16) error {
	// Past the client's cache, which may still have a topic that is deleted.
	if _, err := c.metadata(kadm.WithAuthorizedOps(ctx), name); !errors.Is(err, ErrNoTopic) {
		return err
	}
	configs := map[string]*string{"cleanup.policy": kadm.StringPtr("delete")}
	if replication >= 3 {
		configs["min.insync.replicas"] = kadm.StringPtr("2")
	}
	if replication == 0 {
		replication = -1 // KIP-464: the broker's default.
	}
	_, err := c.admin.CreateTopic(ctx, partitions, replication, configs, name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) { // Another caller may have been faster.
		return fmt.Errorf("create topic %s: %w", name, explain(err, mayCreate(name)))
	}
	return nil
}

// GrowTopic gives the topic more partitions, so that it has as many as said. If it has them already, nothing is asked of
// the brokers that needs the right to alter.
func (c *Cluster) GrowTopic(ctx context.Context, name string, partitions int32) error {
	if t, err := c.metadata(ctx, name); err != nil || t.Partitions == partitions {
		return err
	}
	answers, err := c.admin.UpdatePartitions(ctx, int(partitions), name)
	if err == nil {
		err = answers.Error()
	}
	if err == nil {
		return nil
	}
	if t, asked := c.metadata(ctx, name); asked == nil && t.Partitions == partitions {
		return nil
	}
	return fmt.Errorf("give topic %s %d partitions: %w", name, partitions, explain(err, mayAlter(name)))
}

// Range says how far one partition's log goes.
type Range struct {
	TopicID   uuid.UUID
	Start     int64 // The first offset that is still there.
	StableEnd int64 // Below it every transaction is decided: the end for a read_committed consumer (last stable offset).
	End       int64 // The offset that the next record gets (high watermark); asked for after StableEnd, so never below it.
}

// Ranges asks how far each of the topic's partitions goes, and of which topic, by metadata read just now.
func (c *Cluster) Ranges(ctx context.Context, topic string) ([]Range, error) {
	o, err := c.offsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ranges := make([]Range, o.topic.Partitions)
	for i := range ranges {
		if ranges[i], err = o.rangeOf(int32(i)); err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

// Range asks how far one partition goes, and of which topic, by metadata read just now. That another partition has no leader is no matter of this one's.
func (c *Cluster) Range(ctx context.Context, topic string, partition int32) (r Range, err error) {
	t, err := c.metadata(ctx, topic)
	if err != nil {
		return r, err
	}
	r.TopicID = t.ID
	for _, one := range []struct {
		to        *int64
		which     int64
		isolation int8
	}{{&r.Start, earliest, uncommitted}, {&r.StableEnd, latest, committed}, {&r.End, latest, uncommitted}} { // The end after the stable end: see Range.
		if *one.to, err = listOffset(ctx, c.client, topic, partition, one.which, one.isolation); err != nil {
			return Range{}, fmt.Errorf("offsets of %s/%d: %w", topic, partition, err)
		}
	}
	return r, nil
}

// Beyond returns the first of the topic's partitions from the given one on that holds records, or -1, and how many partitions there are. It asks only for metadata as long as there are no
// such partitions.
func (c *Cluster) Beyond(ctx context.Context, topic string, from int32) (first, partitions int32, err error) {
	t, err := c.metadata(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	for p := from; p < t.Partitions; p++ {
		end, err := listOffset(ctx, c.client, topic, p, latest, uncommitted)
		if err != nil {
			return 0, 0, fmt.Errorf("end of %s/%d: %w", topic, p, err)
		}
		if end > 0 {
			return p, t.Partitions, nil
		}
	}
	return -1, t.Partitions, nil
}

// offsets is what the brokers say of all of a topic's partitions; err has what some brokers did not say.
type offsets struct {
	topic               Topic
	starts, stable, end kadm.ListedOffsets
	err                 error
}

func (c *Cluster) offsets(ctx context.Context, topic string) (o offsets, err error) {
	if o.topic, err = c.metadata(ctx, topic); err != nil {
		return o, err
	}
	var startErr, stableErr, endErr error
	o.starts, startErr = c.admin.ListStartOffsets(ctx, topic)
	o.stable, stableErr = c.admin.ListCommittedOffsets(ctx, topic)
	o.end, endErr = c.admin.ListEndOffsets(ctx, topic) // After the stable end: see Range.
	o.err = errors.Join(startErr, stableErr, endErr)
	return o, nil
}

func (o offsets) rangeOf(partition int32) (Range, error) {
	start, startOK := o.starts.Lookup(o.topic.Name, partition)
	stable, stableOK := o.stable.Lookup(o.topic.Name, partition)
	end, endOK := o.end.Lookup(o.topic.Name, partition)
	if err := errors.Join(start.Err, stable.Err, end.Err); err != nil || !startOK || !stableOK || !endOK {
		return Range{}, fmt.Errorf("offsets of %s/%d: %w", o.topic.Name, partition, cmp.Or(err, o.err, errNotListed))
	}
	return Range{TopicID: o.topic.ID, Start: start.Offset, StableEnd: stable.Offset, End: end.Offset}, nil
}

var errNotListed = errors.New("not listed by the broker")

// Faults names what makes the topic unfit for payments spread over the given number of partitions.
func (t Topic) Faults(partitions int) []string {
	var faults []string
	if int(t.Partitions) != partitions {
		faults = append(faults, fmt.Sprintf("topic %s has %d partitions, the database says %d", t.Name, t.Partitions, partitions))
	}
	// Compaction may drop transaction markers on a lagging replica (Kafka 3.9 to 4.2), and it drops payments by design.
	if strings.Contains(t.Configs["cleanup.policy"], "compact") {
		faults = append(faults, fmt.Sprintf("topic %s has cleanup.policy=%s: payments may not be compacted away", t.Name, t.Configs["cleanup.policy"]))
	}
	if n, err := strconv.Atoi(t.Configs["max.message.bytes"]); err == nil && n < BatchBytesMax+BatchOverheadMax {
		faults = append(faults, fmt.Sprintf("topic %s has max.message.bytes=%d: our batches need %d", t.Name, n, BatchBytesMax+BatchOverheadMax))
	}
	return faults
}

// BatchOverheadMax is what a batch may add to its events: the header of message format v2 has 61 bytes.
const BatchOverheadMax = 1000

// Warnings names what is fit for a test but not for payments that must survive a broker.
func (t Topic) Warnings() []string {
	var warnings []string
	if t.Replication == 1 {
		warnings = append(warnings, fmt.Sprintf("topic %s has replication factor 1: a lost broker loses payments", t.Name))
	}
	if n, err := strconv.Atoi(t.Configs["min.insync.replicas"]); err == nil && n < 2 && t.Replication >= 3 {
		warnings = append(warnings, fmt.Sprintf("topic %s has min.insync.replicas=%d: an acknowledged payment may be on one broker only", t.Name, n))
	}
	if t.TransactionVersion < 2 {
		warnings = append(warnings, fmt.Sprintf("the brokers have transaction.version=%d: a request that is delayed beyond its transaction may be taken for one of the next (KIP-890); "+
			"kafka-features.sh upgrade --feature transaction.version=2", t.TransactionVersion))
	}
	return warnings
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
