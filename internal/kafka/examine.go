package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Abilities is what the brokers can do.
type Abilities struct {
	// Versions are the versions of Kafka that the brokers seem to have, by the requests that they
	// accept, such as "v4.0". A broker of another make is like one of them.
	Versions []string
	// Transactions is true if all brokers accept the requests of transactions.
	Transactions bool
	// TransactionVersion is that of Topic.
	TransactionVersion int16
}

// Abilities queries each broker for the requests that it accepts.
func (c *Cluster) Abilities(ctx context.Context) (a Abilities, err error) {
	all, err := c.admin.ApiVersions(ctx)
	if err != nil {
		return a, fmt.Errorf("versions of the brokers: %w", err)
	}
	a.Transactions = len(all) > 0
	for _, broker := range all.Sorted() {
		if broker.Err != nil {
			return a, fmt.Errorf("version of broker %d: %w", broker.NodeID, broker.Err)
		}
		if version := broker.VersionGuess(); !slices.Contains(a.Versions, version) {
			a.Versions = append(a.Versions, version)
		}
		for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
			_, accepted := broker.KeyMaxVersion(key.Int16())
			a.Transactions = a.Transactions && accepted
		}
	}
	a.TransactionVersion, err = c.transactionVersion(ctx)
	return a, err
}

// transactionTopic is where the coordinators of transactions keep their state.
const transactionTopic = "__transaction_state"

// TransactionLog describes the topic in which the brokers keep the state of transactions.
type TransactionLog struct {
	// Exists is false before the first transaction. Then the figures are the settings of a broker.
	Exists      bool
	Replication int
	MinInSync   int
}

// TransactionLog describes the log of the transaction coordinators. It needs Describe and
// DescribeConfigs on __transaction_state, or, before the first transaction, DescribeConfigs on the
// cluster.
func (c *Cluster) TransactionLog(ctx context.Context) (TransactionLog, error) {
	topics, err := c.admin.ListTopicsWithInternal(ctx, transactionTopic)
	detail := topics[transactionTopic]
	switch err := cmp.Or(err, detail.Err); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return c.transactionDefaults(ctx)
	case err != nil:
		return TransactionLog{}, fmt.Errorf("topic %s: %w", transactionTopic, err)
	}
	log := TransactionLog{Exists: true}
	for _, p := range detail.Partitions {
		if log.Replication == 0 || len(p.Replicas) < log.Replication {
			log.Replication = len(p.Replicas)
		}
	}
	configs, err := c.admin.DescribeTopicConfigs(ctx, transactionTopic)
	if err != nil {
		return TransactionLog{}, fmt.Errorf("settings of topic %s: %w", transactionTopic, err)
	}
	log.MinInSync, err = numberIn(configs, "min.insync.replicas")
	return log, err
}

// transactionDefaults returns what the topic would be created with.
func (c *Cluster) transactionDefaults(ctx context.Context) (log TransactionLog, err error) {
	brokers, err := c.admin.ListBrokers(ctx)
	if err != nil || len(brokers) == 0 {
		return log, fmt.Errorf("brokers: %w", cmp.Or(err, errNotListed))
	}
	configs, err := c.admin.DescribeBrokerConfigs(ctx, brokers[0].NodeID)
	if err != nil {
		return log, fmt.Errorf("settings of broker %d: %w", brokers[0].NodeID, err)
	}
	replication, err := numberIn(configs, "transaction.state.log.replication.factor")
	if err != nil {
		return log, err
	}
	log.Replication = replication
	log.MinInSync, err = numberIn(configs, "transaction.state.log.min.isr")
	return log, err
}

// numberIn returns a setting of the one resource that was described.
func numberIn(all kadm.ResourceConfigs, key string) (int, error) {
	for _, resource := range all {
		if resource.Err != nil {
			return 0, fmt.Errorf("settings of %s: %w", resource.Name, resource.Err)
		}
		for _, config := range resource.Configs {
			if config.Key == key {
				return strconv.Atoi(config.MaybeValue())
			}
		}
	}
	return 0, fmt.Errorf("setting %s: %w", key, errNotListed)
}
