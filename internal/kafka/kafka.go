// Package kafka publishes payments to Kafka and reads the topic. It is the only package of the
// service that uses a Kafka client.
//
// There are two ways to publish. Producer is for fenced delivery, which is exactly once. Locked is
// for locked delivery, which is at least once.
//
//   - After Producer.Commit returns nil, the records of the transaction are in the topic, at the
//     offsets that Produce was given. After Fencer.Fence returns, no earlier producer can add
//     records.
//   - After Locked.Publish returns nil, the whole batch is in the topic, acknowledged by all
//     in-sync replicas, at consecutive offsets from the one that it returns.
//   - A *RefusedError means that no record of the batch is in the topic, and that a retry would
//     fail in the same way. After any other error the outcome is unknown.
//
// The caller decides what may be published and when, and keeps a record of it.
//
// Locked delivery uses segmentio/kafka-go. Everything else uses twmb/franz-go: its metadata
// contains topic ids, and its read_committed reads filter aborted records, which those of kafka-go
// do not.
package kafka

import (
	"fmt"

	"github.com/paylatch/paylatch/internal/brokers"
)

const (
	// BatchBytesMax bounds one batch. It is below the default of max.message.bytes (1,048,588). A
	// topic that accepts less is refused when the service starts.
	BatchBytesMax = 1_000_000
	// dialTimeout bounds one attempt to connect to a broker, and then to log in.
	dialTimeout = brokers.DialTimeout
	// clientID identifies the service to the brokers, for their quotas and logs.
	clientID = "paylatch"
)

// RefusedError is returned if the broker refused a batch because of its content. It will refuse the
// same batch again.
type RefusedError struct{ Reason error }

func (e *RefusedError) Error() string { return fmt.Sprintf("refused by the broker: %v", e.Reason) }

func (e *RefusedError) Unwrap() error { return e.Reason }
