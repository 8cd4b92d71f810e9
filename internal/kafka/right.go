package kafka

import (
	"errors"
	"fmt"
	"strings"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Right is what a principal may do with a resource, in the words of Kafka's authorizer.
// Source: https://kafka.apache.org/documentation/#security_authz
type Right struct {
	Operation string // As kafka-acls.sh spells it, like Write.
	Resource  string // Like "topic payments".
	Purpose   string // Why the service needs it, like "to append payments".
}

func (r Right) String() string {
	return fmt.Sprintf("%s on %s, needed %s", r.Operation, r.Resource, r.Purpose)
}

// MissingRightsError says that the principal lacks these rights.
type MissingRightsError struct {
	Rights []Right
	Err    error // The broker's own, if there is one.
}

func (e *MissingRightsError) Error() string {
	rights := make([]string, len(e.Rights))
	for i, r := range e.Rights {
		rights[i] = r.String()
	}
	return "the Kafka principal lacks a right: " + strings.Join(rights, "; ")
}

func (e *MissingRightsError) Unwrap() error { return e.Err }

// The rights, each with all that it is for.
func mayDescribe(topic string) Right {
	return Right{"Describe", "topic " + topic, "to find the partitions and how far their logs go"}
}

func mayDescribeConfigs(topic string) Right {
	return Right{"DescribeConfigs", "topic " + topic, "to check that the topic's settings suit payments"}
}

func mayRead(topic string) Right {
	return Right{"Read", "topic " + topic, "to read what a crashed sender left in the log, and to verify"}
}

func mayWrite(topic string) Right {
	return Right{"Write", "topic " + topic, "to append payments"}
}

func mayCreate(topic string) Right {
	return Right{"Create", "topic " + topic, "to create the topic, unless it exists already"}
}

func mayAlter(topic string) Right {
	return Right{"Alter", "topic " + topic, "to add partitions, unless the topic has them already"}
}

func mayWriteTransactions(id string) Right {
	return Right{"Write", "transactional-id " + id, "to publish in transactions"}
}

func mayDescribeTransactions(id string) Right {
	return Right{"Describe", "transactional-id " + id, "to find the coordinator of its transactions"}
}

func mayWriteMarkers() Right {
	return Right{"ClusterAction (or Alter)", "the cluster", "to end a transaction whose marker a broker has lost"}
}

// explain turns a broker's refusal for want of a right into a *MissingRightsError. All other errors stay as they are.
func explain(err error, r Right) error {
	if notAuthorized(err) {
		return &MissingRightsError{Rights: []Right{r}, Err: err}
	}
	return err
}

func notAuthorized(err error) bool {
	for _, code := range []error{
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kafkago.TopicAuthorizationFailed,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// explainCoordinator adds what mostly keeps the brokers from having a transaction coordinator.
func explainCoordinator(err error) error {
	if !errors.Is(err, kerr.CoordinatorNotAvailable) {
		return err
	}
	return fmt.Errorf("%w (the brokers cannot create or lead a partition of __transaction_state: transaction.state.log.replication.factor, "+
		"which is 3 by default, must not exceed the number of brokers, nor transaction.state.log.min.isr the replicas in sync)", err)
}
