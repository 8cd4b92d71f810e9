// Package kafka publishes payments to Kafka; it is the only room that knows a client.
//
// It promises what one call promises. Locked: Publish returns nil only when the whole batch is in the topic, acknowledged by all in-sync replicas, at consecutive offsets from the
// one it returns. Fenced: a Producer's Commit returns nil only when what it produced is in the topic for good, at the offsets that it was told; Fence, that no producer made before can
// add to it. A *Refused error says that none of a batch is there, and that no later attempt would differ. After any other error the outcome is unknown. It leaves to
// the sender what may be published, when, and what is recorded of it.
//
// Locked delivery uses segmentio/kafka-go; fenced delivery, and whatever asks or judges the topic, uses twmb/franz-go, whose metadata knows topic ids and whose
// reads really filter aborted records (facts, exactly-once section 0).
package kafka

import (
	"fmt"
	"time"
)

const (
	// BatchBytesMax bounds one batch. It stays below max.message.bytes' default (1,048,588), and a topic that takes less is refused at the start.
	BatchBytesMax = 1_000_000
	// dialTimeout bounds one attempt to connect to a broker.
	dialTimeout = 3 * time.Second
	// clientID names us to the brokers, for their quotas and logs.
	clientID = "paylatch"
)

// Refused says that the broker refused a batch for what it is, so that the same batch will be refused again.
type Refused struct{ Reason error }

func (e *Refused) Error() string { return fmt.Sprintf("refused by the broker: %v", e.Reason) }

func (e *Refused) Unwrap() error { return e.Reason }
