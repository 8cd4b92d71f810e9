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

	"github.com/paylatch/paylatch/internal/brokers"
)

// requestTimeout bounds the retries of one request to the brokers.
const requestTimeout = 5 * time.Second

// Cluster creates, describes and reads topics. It is safe for concurrent use.
//
// Its methods return a *MissingRightsError if a right is missing, and ErrNoTopic if there is no
// such topic.
type Cluster struct {
	client *kgo.Client
	admin  *kadm.Client
}

// NewCluster returns a client of the brokers. It connects when it is first used.
func NewCluster(access *brokers.Access) (*Cluster, error) {
	client, err := kgo.NewClient(append(access.Options(),
		kgo.ClientID(clientID), kgo.RetryTimeout(requestTimeout),
		kgo.MetadataMinAge(100*time.Millisecond), // A new leader is found at once. Requests are rare.
		kgo.DisableClientMetrics(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &Cluster{client, kadm.NewClient(client)}, nil
}

// Close closes the connections.
func (c *Cluster) Close() { c.admin.Close() }

// Topic describes a topic.
type Topic struct {
	Name string
	// ID is Kafka's topic id (KIP-516). A topic that is deleted and created again has another one.
	ID         uuid.UUID
	Partitions int32
	// Replication is the lowest replication factor of the partitions.
	Replication int
	Configs     map[string]string
	// TransactionVersion is the transaction.version of the cluster. From 2 on, brokers distinguish
	// late requests of a transaction from those of the next one (KIP-890). It is 0 if the brokers
	// do not report it.
	TransactionVersion int16
}

// ErrNoTopic is returned if the brokers have no such topic.
var ErrNoTopic = errors.New("the topic does not exist")

// Topic describes the topic with its settings, as the brokers have it now.
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
		if errors.Is(resource.Err, kerr.UnknownTopicOrPartition) { // Deleted since the metadata.
			return Topic{}, fmt.Errorf("%s: %w", name, ErrNoTopic)
		}
		if resource.Err != nil {
			err := explain(resource.Err, mayDescribeConfigs(name))
			return Topic{}, fmt.Errorf("settings of topic %s: %w", name, err)
		}
		for _, config := range resource.Configs {
			t.Configs[config.Key] = config.MaybeValue()
		}
	}
	t.TransactionVersion, err = c.transactionVersion(ctx)
	return t, err
}

// transactionVersion returns the finalized feature transaction.version (KIP-584), or 0.
func (c *Cluster) transactionVersion(ctx context.Context) (int16, error) {
	response, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, c.client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err != nil {
		return 0, fmt.Errorf("features of the brokers: %w", err)
	}
	for _, feature := range response.FinalizedFeatures {
		if feature.Name == "transaction.version" {
			return feature.MaxVersionLevel, nil
		}
	}
	return 0, nil
}

func (c *Cluster) metadata(ctx context.Context, name string) (Topic, error) {
	metadata, err := c.admin.Metadata(ctx, name)
	if err == nil && errors.Is(metadata.Topics[name].Err, kerr.UnknownTopicOrPartition) {
		// This request bypasses the cache of the client: the topic may have been created since.
		metadata, err = c.admin.Metadata(kadm.WithAuthorizedOps(ctx), name)
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
	partitions := int32(len(detail.Partitions))
	t := Topic{Name: name, ID: uuid.UUID(detail.ID), Partitions: partitions, Configs: map[string]string{}}
	for _, p := range detail.Partitions {
		if t.Replication == 0 || len(p.Replicas) < t.Replication {
			t.Replication = len(p.Replicas)
		}
	}
	return t, nil
}

// HasTopic reports whether the brokers have the topic now.
func (c *Cluster) HasTopic(ctx context.Context, name string) (bool, error) {
	// This request bypasses the cache of the client, which may still have a topic that is deleted.
	_, err := c.metadata(kadm.WithAuthorizedOps(ctx), name)
	if errors.Is(err, ErrNoTopic) {
		return false, nil
	}
	return err == nil, err
}

// Refused reports whether err shows that the brokers have refused a request to create or change a
// topic, and so have not carried it out. After other errors the outcome is unknown.
func Refused(err error) bool {
	code, ok := errors.AsType[*kerr.Error](err)
	return ok && !code.Retriable && !errors.Is(code, kerr.UnknownServerError)
}

// CreateTopic creates the topic with the settings for payments, unless it exists. If it exists,
// CreateTopic does not need the right Create. Replication 0 is the default of the brokers. With 3
// or more, an append is acknowledged only once two replicas have it.
func (c *Cluster) CreateTopic(ctx context.Context, name string, partitions int32, replication int16) error {
	if has, err := c.HasTopic(ctx, name); has || err != nil {
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
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) { // Another process may create it, too.
		return fmt.Errorf("create topic %s: %w", name, explain(err, mayCreate(name)))
	}
	return nil
}

// GrowTopic adds partitions to the topic until it has the given number. If it has them already,
// GrowTopic does not need the right Alter.
func (c *Cluster) GrowTopic(ctx context.Context, name string, partitions int32) error {
	if t, err := c.metadata(ctx, name); err != nil || t.Partitions == partitions {
		return err
	}
	responses, err := c.admin.UpdatePartitions(ctx, int(partitions), name)
	if err == nil {
		err = responses.Error()
	}
	if err == nil {
		return nil
	}
	// Another process may have added them.
	if t, err := c.metadata(ctx, name); err == nil && t.Partitions == partitions {
		return nil
	}
	return fmt.Errorf("give topic %s %d partitions: %w", name, partitions, explain(err, mayAlter(name)))
}

// Range is the range of offsets in the log of a partition.
type Range struct {
	TopicID uuid.UUID
	// Start is the first offset of the log.
	Start int64
	// StableEnd is the last stable offset, the end for a read_committed consumer. There is no open
	// transaction below it.
	StableEnd int64
	// End is the high watermark, the offset of the next record. It is requested after StableEnd, so
	// it is never lower.
	End int64
}

// Ranges returns the ranges of all partitions of the topic, as the brokers have them now.
func (c *Cluster) Ranges(ctx context.Context, topic string) ([]Range, error) {
	o, err := c.offsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ranges := make([]Range, o.topic.Partitions)
	for i := range ranges {
		ranges[i], err = o.rangeOf(int32(i))
		if err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

// Range returns the range of one partition, as its leader has it now. Other partitions need no
// leader.
func (c *Cluster) Range(ctx context.Context, topic string, partition int32) (r Range, err error) {
	t, err := c.metadata(ctx, topic)
	if err != nil {
		return r, err
	}
	r.TopicID = t.ID
	for _, one := range []struct {
		offset    *int64
		timestamp int64
		isolation int8
	}{
		{&r.Start, earliest, uncommitted},
		{&r.StableEnd, latest, committed},
		{&r.End, latest, uncommitted}, // After StableEnd: see type Range.
	} {
		*one.offset, err = listOffset(ctx, c.client, topic, partition, one.timestamp, one.isolation)
		if err != nil {
			return Range{}, fmt.Errorf("offsets of %s/%d: %w", topic, partition, err)
		}
	}
	return r, nil
}

// FirstNonEmpty returns the first partition numbered from or higher that contains records, if there
// is one, and the number of partitions of the topic. It needs only a metadata request, unless there
// are partitions from from on.
func (c *Cluster) FirstNonEmpty(
	ctx context.Context, topic string, from int32,
) (first int32, found bool, partitions int32, err error) {
	t, err := c.metadata(ctx, topic)
	if err != nil {
		return 0, false, 0, err
	}
	for p := from; p < t.Partitions; p++ {
		end, err := listOffset(ctx, c.client, topic, p, latest, uncommitted)
		if err != nil {
			return 0, false, 0, fmt.Errorf("end of %s/%d: %w", topic, p, err)
		}
		if end > 0 {
			return p, true, t.Partitions, nil
		}
	}
	return 0, false, t.Partitions, nil
}

// offsets are the offsets of all partitions of a topic. err joins the errors of single brokers.
type offsets struct {
	topic               Topic
	starts, stable, end kadm.ListedOffsets
	err                 error
}

func (c *Cluster) offsets(ctx context.Context, topic string) (o offsets, err error) {
	o.topic, err = c.metadata(ctx, topic)
	if err != nil {
		return o, err
	}
	var startErr, stableErr, endErr error
	o.starts, startErr = c.admin.ListStartOffsets(ctx, topic)
	o.stable, stableErr = c.admin.ListCommittedOffsets(ctx, topic)
	o.end, endErr = c.admin.ListEndOffsets(ctx, topic) // After the stable end: see type Range.
	o.err = errors.Join(startErr, stableErr, endErr)
	return o, nil
}

func (o offsets) rangeOf(partition int32) (Range, error) {
	start, startOK := o.starts.Lookup(o.topic.Name, partition)
	stable, stableOK := o.stable.Lookup(o.topic.Name, partition)
	end, endOK := o.end.Lookup(o.topic.Name, partition)
	err := errors.Join(start.Err, stable.Err, end.Err)
	if err != nil || !startOK || !stableOK || !endOK {
		return Range{}, fmt.Errorf("offsets of %s/%d: %w", o.topic.Name, partition, cmp.Or(err, o.err, errNotListed))
	}
	return Range{TopicID: o.topic.ID, Start: start.Offset, StableEnd: stable.Offset, End: end.Offset}, nil
}

var errNotListed = errors.New("not listed by the broker")

// Faults returns the reasons why the topic cannot be used for payments in the given number of
// partitions.
func (t Topic) Faults(partitions int) []string {
	var faults []string
	if int(t.Partitions) != partitions {
		faults = append(faults, fmt.Sprintf("topic %s has %d partitions, the database says %d",
			t.Name, t.Partitions, partitions))
	}
	// Compaction removes payments by design. It may also remove transaction markers on a replica
	// that lags (Kafka 3.9 to 4.2).
	if strings.Contains(t.Configs["cleanup.policy"], "compact") {
		faults = append(faults, fmt.Sprintf("topic %s has cleanup.policy=%s: payments may not be compacted away",
			t.Name, t.Configs["cleanup.policy"]))
	}
	if n, err := strconv.Atoi(t.Configs["max.message.bytes"]); err == nil && n < BatchBytesMax+BatchOverheadMax {
		faults = append(faults, fmt.Sprintf("topic %s has max.message.bytes=%d: our batches need %d",
			t.Name, n, BatchBytesMax+BatchOverheadMax))
	}
	return faults
}

// BatchOverheadMax bounds the bytes that a batch adds to its events. The header of message format
// v2 has 61 bytes.
const BatchOverheadMax = 1000

// Warnings returns the reasons why payments may be lost with a broker.
func (t Topic) Warnings() []string {
	var warnings []string
	if t.Replication == 1 {
		warnings = append(warnings,
			fmt.Sprintf("topic %s has replication factor 1: a lost broker loses payments", t.Name))
	}
	if n, err := strconv.Atoi(t.Configs["min.insync.replicas"]); err == nil && n < 2 && t.Replication >= 3 {
		warnings = append(warnings, fmt.Sprintf("topic %s has min.insync.replicas=%d: "+
			"an acknowledged payment may be on one broker only", t.Name, n))
	}
	if t.TransactionVersion < 2 {
		warnings = append(warnings, fmt.Sprintf("the brokers have transaction.version=%d: "+
			"a request that is delayed beyond its transaction may be taken for one of the next (KIP-890); "+
			"kafka-features.sh upgrade --feature transaction.version=2", t.TransactionVersion))
	}
	return warnings
}
