package sender

import (
	"context"
	"slices"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/store"
)

// locked delivers the payments of a partition and needs only acks of the broker. The session's
// locks keep other senders from emitting the payments during that. A batch that a crash interrupts
// between publish and commit is repeated.
type locked struct {
	*Config
	partition int32
	// acknowledged is in the topic and could not be marked; nil if there is no such batch.
	acknowledged *acknowledged
}

// keepsSession implements delivery. The session's locks are valid until it is lost.
func (l *locked) keepsSession() bool { return true }

// mustKeep implements delivery. While a batch is acknowledged and not marked, another owner would
// repeat it.
func (l *locked) mustKeep() bool { return l.acknowledged != nil }

// reset forgets the acknowledged batch. Without the session's locks another owner may have sent it.
func (l *locked) reset() { l.acknowledged = nil }

// settle implements delivery. What is acknowledged is visible.
func (l *locked) settle(context.Context) error { return nil }

// recover checks that the topic is the one that the payments so far went to, and that it cannot
// have lost any of them. Otherwise the partition halts for an operator.
func (l *locked) recover(ctx context.Context, claim *store.Claim, _ store.Partition) (done bool, err error) {
	_, reason, err := recovery.Judge(ctx, l.Log, claim.Partition)
	if err != nil {
		return false, err
	}
	if reason != "" {
		return false, &haltError{reason}
	}
	return true, nil
}

// acknowledged is a batch that the broker has acknowledged.
type acknowledged struct {
	batch
	ids []payment.ID
}

// isOf reports whether the batch is the beginning of the claim.
func (a *acknowledged) isOf(claim *store.Claim) bool {
	return a != nil && a.count <= len(claim.Payments) &&
		slices.EqualFunc(a.ids, claim.Payments[:a.count],
			func(id payment.ID, p payment.Payment) bool { return id == p.ID })
}

// publish appends the claim's payments to the topic, as many as fit into one batch. A batch that
// this owner has published before and could not mark (because of a full disk, say) is not published
// again. After any failure the payments that are not marked stay `created`, and are sent in a later
// batch, here or by another replica. If power fails
//
//	before the append:            nothing has happened;
//	during it or before the mark: the batch may be in the topic. It is not marked, so it is
//	                              repeated.
//
// The repetitions are the limit of locked delivery.
func (l *locked) publish(ctx context.Context, claim *store.Claim, _ store.Partition) (batch, error) {
	if l.acknowledged.isOf(claim) {
		return l.acknowledged.batch, nil
	}
	events, err := l.encode(claim.Payments)
	if err != nil {
		return batch{}, err
	}
	if err := claim.Confirm(ctx); err != nil {
		// An isolated primary must not emit payments that the new one does not have.
		return batch{}, err
	}
	base, err := l.append(ctx, events)
	if err != nil {
		return batch{}, err
	}
	l.acknowledged = &acknowledged{
		batch: batch{count: len(events), base: base, next: base + int64(len(events))},
		ids:   make([]payment.ID, len(events)),
	}
	for i := range events {
		l.acknowledged.ids[i] = claim.Payments[i].ID
	}
	return l.acknowledged.batch, nil
}

// recorded implements delivery.
func (l *locked) recorded(batch) { l.acknowledged = nil }

// append makes the one request to Kafka within a batch. The database transaction stays open during
// it, since its locks keep other senders from emitting these payments. store.PublishTimeout bounds
// it, and the session's timeouts allow for that.
func (l *locked) append(ctx context.Context, events []kafka.Event) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, store.PublishTimeout)
	defer cancel()
	began := time.Now()
	base, err := l.Publisher.Publish(ctx, l.partition, events)
	l.Metrics.published(time.Since(began), len(events), err)
	return base, err
}
