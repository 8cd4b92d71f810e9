package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/test/harness"
)

const (
	topic            = "payments"
	transactionState = "__transaction_state"
	consumerOffsets  = "__consumer_offsets"

	replicationWant = 3
	inSyncWant      = "2" // min.insync.replicas.

	// stepMax bounds each wait for brokers and replicas. The longest are for the brokers: to notice
	// that one has gone, which takes Kafka's session time-out of 9 s, and for one that is back to
	// start and to catch up.
	stepMax = 3 * time.Minute
)

// allTopics are those that exactly once rests on: the payments, the outcomes of transactions, the
// consumers' offsets.
var allTopics = []string{topic, transactionState, consumerOffsets}

// cluster is the Kafka cluster of docker-compose.cluster.yml, from this machine.
type cluster struct {
	client *kgo.Client
	count  int
}

func newCluster(count int) (*cluster, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addresses(count)...), kgo.ClientID("scale-test"),
		kgo.DialTimeout(2*time.Second), kgo.RetryTimeout(5*time.Second), kgo.DisableClientMetrics())
	return &cluster{client, count}, err
}

// addresses are where this machine reaches the brokers.
func addresses(count int) (list []string) {
	for _, port := range kafkaPorts[:count] {
		list = append(list, "127.0.0.1:"+port)
	}
	return list
}

// partition is where one partition is, by the cluster's metadata.
type partition struct {
	topic            string
	number           int32
	leader           int32
	replicas, inSync []int32
}

func (p partition) String() string {
	return fmt.Sprintf("%s/%d: leader %d, in sync %v", p.topic, p.number, p.leader, p.inSync)
}

// partitions lists those of some topics.
func (k *cluster) partitions(ctx context.Context, topics ...string) ([]partition, error) {
	request := kmsg.NewPtrMetadataRequest()
	for _, t := range topics {
		one := kmsg.NewMetadataRequestTopic()
		one.Topic = &t
		request.Topics = append(request.Topics, one)
	}
	response, err := request.RequestWith(ctx, k.client)
	if err != nil {
		return nil, err
	}
	var list []partition
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			list = append(list, partition{*t.Topic, p.Partition, p.Leader, p.Replicas, p.ISR})
		}
		if len(t.Partitions) == 0 {
			return nil, fmt.Errorf("topic %s has no partitions", *t.Topic)
		}
	}
	return list, nil
}

// await waits until each partition of the topics meets a condition.
func (k *cluster) await(ctx context.Context, what string, met func(partition) bool, topics ...string) error {
	return harness.Eventually(ctx, stepMax, what, func(ctx context.Context) error {
		list, err := k.partitions(ctx, topics...)
		if i := slices.IndexFunc(list, func(p partition) bool { return !met(p) }); err == nil && i >= 0 {
			err = errors.New(list[i].String())
		}
		return err
	})
}

// whole reports whether a partition has a leader and all its replicas are in sync.
func (k *cluster) whole(p partition) bool { return p.leader > 0 && len(p.inSync) == k.count }

// prepare waits until the brokers can take all of the load. It makes Kafka create
// __consumer_offsets, as the first consumer group does: a consumer that had to wait for that would
// end before its first record.
func (k *cluster) prepare(ctx context.Context) error {
	const what = "a coordinator of consumer groups"
	err := harness.Eventually(ctx, stepMax, what, func(ctx context.Context) error {
		return kadm.NewClient(k.client).FindGroupCoordinators(ctx, "scale-test").Error()
	})
	if err != nil {
		return err
	}
	return k.await(ctx, "all replicas in sync", k.whole, allTopics...)
}

// replicated returns what is not replicated as docker-compose.cluster.yml says.
func (k *cluster) replicated(ctx context.Context) error {
	list, err := k.partitions(ctx, allTopics...)
	if err != nil {
		return err
	}
	configs, err := kadm.NewClient(k.client).DescribeTopicConfigs(ctx, allTopics...)
	if err != nil {
		return err
	}
	var faults []error
	for _, p := range list {
		if len(p.replicas) != replicationWant {
			faults = append(faults, fmt.Errorf("%s/%d has replicas %v, want %d", p.topic, p.number, p.replicas,
				replicationWant))
		}
	}
	for _, c := range configs {
		got := "not known"
		for _, pair := range c.Configs {
			if pair.Key == "min.insync.replicas" {
				got = pair.MaybeValue()
			}
		}
		if c.Err != nil {
			faults = append(faults, fmt.Errorf("configuration of %s: %w", c.Name, c.Err))
		} else if got != inSyncWant {
			faults = append(faults, fmt.Errorf("%s has min.insync.replicas %s, want %s", c.Name, got, inSyncWant))
		}
	}
	return errors.Join(faults...)
}

// containerOf is the container of a broker.
func (c compose) containerOf(broker int32) string {
	service := "kafka"
	if broker > 1 {
		service = fmt.Sprintf("kafka-%d", broker)
	}
	return c.project + "-" + service + "-1"
}
