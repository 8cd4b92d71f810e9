package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// pass sends one batch of the partition's payments, in order, and tells whether there may be more. Whatever fails, the payments that are not marked stay
// `created` and will be sent by a later pass, here or elsewhere. If power fails
//
//	before publish:  nothing happened;
//	during publish:  the batch may be in the topic, but is not marked: it will be repeated (the limit of locked delivery);
//	before commit:   the batch is in the topic, but not marked: it will be repeated;
//	after commit:    the batch is in the topic once, and marked with its offsets.
func (o *owner) pass(ctx context.Context) (again bool, err error) {
	unsent, err := o.session.HasUnsent(ctx)
	if err != nil || !unsent {
		return false, err
	}

	claim, err := o.session.Claim(ctx, o.sender.BatchMax)
	if err != nil {
		return false, err
	}
	defer claim.Rollback()
	if err := o.mayNotSend(claim.Partition); err != nil {
		return false, err
	}

	events, err := o.encode(claim.Payments)
	if err != nil || len(events) == 0 {
		return false, err
	}
	base, err := o.publish(ctx, events)
	if refused, ok := errors.AsType[*kafka.Refused](err); ok {
		return false, o.halt(ctx, claim, refused.Error())
	}
	if err != nil {
		return false, err
	}

	if err := claim.MarkSent(ctx, base, len(events)); err != nil {
		return false, err
	}
	if base < claim.Partition.NextOffset {
		// These are where the broker said; what was acknowledged before is gone, though.
		return false, o.halt(ctx, claim, wentBack(claim.Partition, base))
	}
	if err := claim.Commit(ctx); err != nil {
		return false, err
	}
	o.sender.worked.Store(true)
	o.sender.Metrics.sent(claim.Payments[:len(events)])
	return true, nil
}

// encode makes the events of as many payments as fit into one batch.
func (o *owner) encode(payments []payment.Payment) ([]kafka.Event, error) {
	events := make([]kafka.Event, len(payments))
	for i, p := range payments {
		var err error
		if events[i], err = o.sender.Encoder.Encode(p); err != nil {
			return nil, err
		}
	}
	return events[:kafka.Fit(events)], nil
}

// publish makes the one call to Kafka within a pass. The database transaction stays open meanwhile, on purpose: its locks are what keeps others
// from emitting these payments. It is bounded by store.PublishTimeout, which the session's time-outs allow for.
func (o *owner) publish(ctx context.Context, events []kafka.Event) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, store.PublishTimeout)
	defer cancel()
	began := time.Now()
	base, err := o.sender.Publisher.Publish(ctx, o.partition, events)
	o.sender.Metrics.published(time.Since(began), len(events), err)
	return base, err
}

func wentBack(p store.Partition, base int64) string {
	return fmt.Sprintf("the log went back: a batch was appended at offset %d, before the next offset %d: acknowledged records are lost", base, p.NextOffset)
}
