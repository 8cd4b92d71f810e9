package sender

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// pass sends one batch of the partition's payments, in order, and tells whether there may be more. Whatever fails, the payments that are not
// marked stay `created` and will be sent by a later pass, here or elsewhere. If power fails
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
	if len(claim.Payments) == 0 {
		return false, fmt.Errorf("partition %d: %w", o.partition, errNothingClaimed)
	}

	sent, err := o.publish(ctx, claim)
	if refused, ok := errors.AsType[*kafka.Refused](err); ok {
		return false, o.halt(ctx, claim, refused.Error())
	}
	if err != nil {
		return false, err
	}

	ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
	defer cancel()
	if err := claim.MarkSent(ctx, sent.base, len(sent.ids)); err != nil {
		return false, err
	}
	if sent.base < claim.Partition.NextOffset {
		// These are where the broker said; what was acknowledged before is gone, though.
		return false, o.halt(ctx, claim, wentBack(claim.Partition, sent.base))
	}
	if err := claim.Commit(ctx); err != nil {
		return false, err
	}
	o.acknowledged = nil
	o.sender.worked.Store(true)
	o.sender.Metrics.sent(claim.Payments[:len(sent.ids)])
	return true, nil
}

// errNothingClaimed says that there are unsent payments that a claim does not see: a row they refer to is missing (a partial restore), or a session
// outside of this program holds them.
var errNothingClaimed = errors.New("there are unsent payments, but none can be claimed: a party or account is missing, or another session holds the rows")

// batch is what the broker has acknowledged.
type batch struct {
	ids  []payment.ID
	base int64 // The offset of the first; the others follow.
}

// isOf tells whether the batch is the beginning of the claim.
func (b *batch) isOf(claim *store.Claim) bool {
	return b != nil && len(b.ids) <= len(claim.Payments) &&
		slices.EqualFunc(b.ids, claim.Payments[:len(b.ids)], func(id payment.ID, p payment.Payment) bool { return id == p.ID })
}

// publish has the claim's payments appended to the topic, as many as fit into one batch. A batch that was acknowledged in an earlier pass of this owner and could
// not be marked then (a full disk, say) is not published again.
func (o *owner) publish(ctx context.Context, claim *store.Claim) (*batch, error) {
	if o.acknowledged.isOf(claim) {
		return o.acknowledged, nil
	}
	events, err := o.encode(claim.Payments)
	if err != nil {
		return nil, err
	}
	base, err := o.append(ctx, events)
	if err != nil {
		return nil, err
	}
	o.acknowledged = &batch{base: base, ids: make([]payment.ID, len(events))}
	for i := range events {
		o.acknowledged.ids[i] = claim.Payments[i].ID
	}
	return o.acknowledged, nil
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

// append makes the one call to Kafka within a pass. The database transaction stays open meanwhile, on purpose: its locks are what keeps others
// from emitting these payments. It is bounded by store.PublishTimeout, which the session's time-outs allow for.
func (o *owner) append(ctx context.Context, events []kafka.Event) (int64, error) {
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
