package kafka

import (
	"errors"
	"fmt"
	"strings"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Right is an operation on a resource that Kafka's authorizer allows a principal.
// Source: https://kafka.apache.org/documentation/#security_authz
type Right struct {
	// Operation is spelled as in kafka-acls.sh, such as Write.
	Operation string
	// Resource is a kind and a name, such as "topic payments".
	Resource string
	// Purpose is why the service needs the right, such as "to append payments".
	Purpose string
}

func (r Right) String() string {
	return fmt.Sprintf("%s on %s, needed %s", r.Operation, r.Resource, r.Purpose)
}

// MissingRightsError is returned if the principal lacks rights.
type MissingRightsError struct {
	Rights []Right
	// Err is the error of the broker, or nil.
	Err error
}

func (e *MissingRightsError) Error() string {
	rights := make([]string, len(e.Rights))
	for i, r := range e.Rights {
		rights[i] = r.String()
	}
	return "the Kafka principal lacks a right: " + strings.Join(rights, "; ")
}

func (e *MissingRightsError) Unwrap() error { return e.Err }

// The functions below return the rights that the service needs.

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

// explain returns a *MissingRightsError if a broker refused a request because r is missing. It
// returns other errors unchanged.
func explain(err error, r Right) error {
	if notAuthorized(err) {
		return &MissingRightsError{Rights: []Right{r}, Err: err}
	}
	return err
}

func notAuthorized(err error) bool {
	for _, code := range []error{
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
		kafkago.TopicAuthorizationFailed,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// explainCoordinator adds the usual reason why there is no transaction coordinator.
func explainCoordinator(err error) error {
	if !errors.Is(err, kerr.CoordinatorNotAvailable) {
		return err
	}
	return fmt.Errorf("%w (the brokers cannot create or lead a partition of __transaction_state: "+
		"transaction.state.log.replication.factor, which is 3 by default, must not exceed the number of brokers, "+
		"nor transaction.state.log.min.isr the replicas in sync)", err)
}
