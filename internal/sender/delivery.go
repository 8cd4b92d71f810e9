package sender

import (
	"context"
	"errors"
	"fmt"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// delivery publishes the payments of one partition: fenced.go, locked.go. A partitionWorker calls
// it and owns the claim. A delivery calls nothing back. It is used by one goroutine.
type delivery interface {
	// recover makes one step of a takeover under the claim. The row known is the one that the last
	// step left; its generation is 0 at the first step. done reports that the table has all of the
	// log, so that batches may follow. A *haltError halts the partition.
	recover(ctx context.Context, claim *store.Claim, known store.Partition) (done bool, err error)
	// publish publishes the claim's payments, as many as fit into one batch, and returns where they
	// are in the log. The row known is the one that the last batch left. A *haltError or a
	// *kafka.RefusedError halts the partition.
	publish(ctx context.Context, claim *store.Claim, known store.Partition) (batch, error)
	// recorded follows the commit of the batch's marks.
	recorded(sent batch)
	// settle returns once consumers can see all that was published.
	settle(ctx context.Context) error
	// keepsSession reports whether the worker goes on with its session after an error, if the
	// session is not lost. Otherwise it starts again from a new session and a takeover.
	keepsSession() bool
	// mustKeep reports that no other replica could do better with the partition.
	mustKeep() bool
	// reset drops all that belongs to a session. The session is closed.
	reset()
}

// batch is the part of a claim that is in the log.
type batch struct {
	// count is how many payments there are: the first ones of the claim.
	count int
	// base is the offset of the first payment. The others follow.
	base int64
	// next is the offset after the batch.
	next int64
}

// newDelivery returns the delivery of a partition.
func (s *Sender) newDelivery(partition int32) delivery {
	if s.Delivery == store.DeliveryFenced {
		return &fenced{Config: &s.Config, partition: partition}
	}
	return &locked{Config: &s.Config, partition: partition}
}

// haltError is a reason for which a partition must wait for an operator.
type haltError struct{ reason string }

// Error implements error.
func (e *haltError) Error() string { return e.reason }

// haltReason returns the reason to halt the partition; it is empty if err is none.
func haltReason(err error) string {
	if halt, ok := errors.AsType[*haltError](err); ok {
		return halt.reason
	}
	if refused, ok := errors.AsType[*kafka.RefusedError](err); ok {
		return refused.Error()
	}
	return ""
}

// errPoison means that a payment cannot be encoded.
var errPoison = errors.New("no event can be made")

// isPoison reports whether err is due to a payment that no sender could send.
func isPoison(err error) bool { return errors.Is(err, errPoison) || store.IsCorrupt(err) }

// encode encodes as many payments as fit into one batch.
func (c *Config) encode(payments []payment.Payment) ([]kafka.Event, error) {
	events := make([]kafka.Event, len(payments))
	for i, p := range payments {
		var err error
		events[i], err = c.Encoder.Encode(p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPoison, err) // The error names the payment.
		}
	}
	return events[:kafka.Fit(events)], nil
}
