package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// noPartition exists in no topic. Brokers check rights before they look up partitions. So a request
// for it reports a missing right, and has no effect.
const noPartition = math.MaxInt32

// noProducer is an id and an epoch that no producer has.
const noProducer = -1

// TryRights checks the rights that a sender needs on the topic, including those that it uses only
// when it recovers a partition. It changes no log and no transaction. transactionalID is that of
// one partition. It is empty for locked delivery, which needs Describe and Write only.
//
// It returns a *MissingRightsError with all missing rights. A warning names a right that the
// service can do without, or a reason why transactions are not possible now. A right that cannot be
// checked, because a broker does not respond for example, does not count as missing.
func (c *Cluster) TryRights(ctx context.Context, topic, transactionalID string) (warnings []string, err error) {
	missing, err := c.missingOnTopic(ctx, topic)
	if err != nil {
		return nil, err
	}
	// Without Describe no other right on the topic can be checked.
	described := !slices.Contains(missing, mayDescribe(topic))
	if transactionalID != "" && described {
		if err := c.tryRead(ctx, topic); notAuthorized(err) {
			missing = append(missing, mayRead(topic))
		}
		if err := c.tryMarkers(ctx, topic); notAuthorized(err) {
			warnings = append(warnings, fmt.Sprintf("the Kafka principal lacks a right: %s; without it "+
				"such a partition waits until an operator runs kafka-transactions.sh abort", mayWriteMarkers()))
		}
	}
	if transactionalID != "" {
		more, warning := c.missingOnTransactions(ctx, topic, transactionalID)
		missing, warnings = append(missing, more...), append(warnings, warning...)
	}
	if len(missing) > 0 {
		return nil, &MissingRightsError{Rights: missing}
	}
	return warnings, nil
}

// missingOnTopic returns the missing rights that both deliveries need, as the broker lists them
// (KIP-430). With a broker that does not list them, a missing right shows at its first use.
func (c *Cluster) missingOnTopic(ctx context.Context, topic string) (missing []Right, err error) {
	metadata, err := c.admin.Metadata(kadm.WithAuthorizedOps(ctx), topic)
	detail := metadata.Topics[topic]
	switch err := cmp.Or(err, detail.Err); {
	case notAuthorized(err):
		return []Right{mayDescribe(topic)}, nil
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil, fmt.Errorf("%s: %w", topic, ErrNoTopic)
	case err != nil:
		return nil, fmt.Errorf("metadata of topic %s: %w", topic, err)
	}
	lacks := func(o kadm.ACLOperation) bool {
		return len(detail.AuthorizedOperations) > 0 && !slices.Contains(detail.AuthorizedOperations, o)
	}
	if lacks(kadm.OpDescribeConfigs) {
		missing = append(missing, mayDescribeConfigs(topic))
	}
	if lacks(kadm.OpWrite) {
		missing = append(missing, mayWrite(topic))
	}
	return missing, nil
}

// missingOnTransactions checks the rights on a transactional id.
func (c *Cluster) missingOnTransactions(ctx context.Context, topic, id string) (missing []Right, warnings []string) {
	if err := c.tryDescribeTransactions(ctx, id); notAuthorized(err) {
		missing = append(missing, mayDescribeTransactions(id))
	}
	switch err := c.tryTransaction(ctx, topic, id); {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		missing = append(missing, mayWriteTransactions(id))
	case errors.Is(err, kerr.CoordinatorNotAvailable):
		warnings = append(warnings, fmt.Sprintf("no transaction can begin: %v", explainCoordinator(err)))
	}
	return missing, warnings
}

// tryRead fetches from the end of a log, where there are no records.
func (c *Cluster) tryRead(ctx context.Context, topic string) error {
	r, err := c.Range(ctx, topic, 0)
	if err != nil {
		return err
	}
	_, _, err = c.fetch(ctx, topic, 0, r.End, 0)
	return err
}

// tryDescribeTransactions requests the state of the last transaction of the id.
func (c *Cluster) tryDescribeTransactions(ctx context.Context, id string) error {
	described, err := c.admin.DescribeTransactions(ctx, id)
	return cmp.Or(err, described[id].Err)
}

// tryTransaction requests to add a partition that does not exist to a transaction that does not
// exist.
func (c *Cluster) tryTransaction(ctx context.Context, topic, id string) error {
	one := kmsg.NewAddPartitionsToTxnRequestTopic()
	one.Topic, one.Partitions = topic, []int32{noPartition}
	request := kmsg.NewPtrAddPartitionsToTxnRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch = id, noProducer, noProducer
	request.Topics = []kmsg.AddPartitionsToTxnRequestTopic{one}
	response, err := request.RequestWith(ctx, c.client)
	if err != nil {
		return err
	}
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			err = cmp.Or(err, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	return err
}

// tryMarkers requests to write a marker of a producer that does not exist to a partition that does
// not exist.
func (c *Cluster) tryMarkers(ctx context.Context, topic string) error {
	leader, _, err := c.leader(ctx, topic, 0)
	if err != nil {
		return err
	}
	one := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	one.Topic, one.Partitions = topic, []int32{noPartition}
	marker := kmsg.NewWriteTxnMarkersRequestMarker()
	marker.ProducerID, marker.ProducerEpoch = noProducer, noProducer
	marker.Topics = []kmsg.WriteTxnMarkersRequestMarkerTopic{one}
	request := kmsg.NewPtrWriteTxnMarkersRequest()
	request.Markers = []kmsg.WriteTxnMarkersRequestMarker{marker}
	// The client itself would look up the leader of the partition, which has none.
	response, err := request.RequestWith(ctx, c.client.Broker(int(leader)))
	if err != nil {
		return err
	}
	for _, m := range response.Markers {
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				err = cmp.Or(err, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	}
	return err
}
