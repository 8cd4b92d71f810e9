package sender

import (
	"context"
	"errors"
	"fmt"
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
	*owner
	// acquired is true once the partition was taken over.
	acquired bool
	// acknowledged is in the topic and could not be marked; nil if there is no such batch.
	acknowledged *batch
}

// work takes the partition over once, and then sends batches.
func (l *locked) work(ctx context.Context) (again bool, err error) {
	if l.acquired {
		return l.sendBatch(ctx)
	}
	return true, l.takeover(ctx)
}

// failed keeps the session and the acknowledged batch, unless the session is lost.
func (l *locked) failed() {
	if l.session.Lost() {
		l.session.Close()
		l.session, l.acquired, l.acknowledged = nil, false, nil
	}
}

// mustKeep implements delivery. While a batch is acknowledged and not marked, another owner would
// repeat it.
func (l *locked) mustKeep() bool { return l.acknowledged != nil }

// takeover checks, under the partition's lock, that the topic is the one that the payments so far
// went to, and that it cannot have lost any of them. Otherwise the partition halts for an operator.
func (l *locked) takeover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recovery.Timeout)
	defer cancel()
	claim, err := l.session.Claim(ctx, 0)
	if err != nil {
		return err
	}
	defer claim.Rollback()
	if err := l.checkMaySend(claim.Partition); err != nil {
		return err
	}
	_, reason, err := recovery.Judge(ctx, l.sender.Log, claim.Partition)
	if err != nil {
		return err
	}
	if reason != "" {
		return l.halt(ctx, claim, reason)
	}
	l.acquired, l.known = true, claim.Partition
	return nil
}

// sendBatch sends the next batch of the partition's payments, in order. again reports that there
// may be more. After any failure the payments that are not marked stay `created`, and are sent in a
// later batch, here or by another replica. If power fails
//
//	before publish:  nothing has happened;
//	during publish:  the batch may be in the topic, and is not marked: it is repeated;
//	before commit:   the batch is in the topic, and is not marked: it is repeated;
//	after commit:    the batch is in the topic once, and marked with its offsets.
//
// The repetitions are the limit of locked delivery.
func (l *locked) sendBatch(ctx context.Context) (again bool, err error) {
	unsent, err := l.mayHaveUnsent(ctx)
	if err != nil {
		return false, err
	}
	if !unsent {
		err := l.endCheck.poll(l.sender, l.known)
		if err != nil {
			l.acquired = false // The session is kept, and the log is compared again.
		}
		return false, err
	}

	claim, err := l.claim(ctx)
	if err != nil {
		return false, err
	}
	defer claim.Rollback()
	if len(claim.Payments) == 0 {
		return true, nil
	}

	sent, err := l.publish(ctx, claim)
	if refused, ok := errors.AsType[*kafka.RefusedError](err); ok {
		return false, l.halt(ctx, claim, refused.Error())
	}
	if err != nil {
		return false, err
	}

	ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
	defer cancel()
	if err := claim.MarkSent(ctx, sent.base, len(sent.ids), sent.base+int64(len(sent.ids))); err != nil {
		return false, err
	}
	if sent.base < claim.Partition.NextOffset {
		// These records are where the broker said. But records that were acknowledged before are
		// gone.
		return false, l.halt(ctx, claim, wentBack(claim.Partition, sent.base))
	}
	if err := claim.Commit(ctx); err != nil {
		return false, err
	}
	l.acknowledged, l.known.NextOffset = nil, sent.base+int64(len(sent.ids))
	l.sent(claim.Payments[:len(sent.ids)])
	return true, nil
}

// batch is a batch that the broker has acknowledged.
type batch struct {
	ids []payment.ID
	// base is the offset of the first payment. The others follow.
	base int64
}

// isOf reports whether the batch is the beginning of the claim.
func (b *batch) isOf(claim *store.Claim) bool {
	return b != nil && len(b.ids) <= len(claim.Payments) &&
		slices.EqualFunc(b.ids, claim.Payments[:len(b.ids)],
			func(id payment.ID, p payment.Payment) bool { return id == p.ID })
}

// publish appends the claim's payments to the topic, as many as fit into one batch. A batch that
// this owner has published before and could not mark (because of a full disk, say) is not published
// again.
func (l *locked) publish(ctx context.Context, claim *store.Claim) (*batch, error) {
	if l.acknowledged.isOf(claim) {
		return l.acknowledged, nil
	}
	events, err := l.encode(claim.Payments)
	if err != nil {
		return nil, err
	}
	if err := claim.Confirm(ctx); err != nil {
		// An isolated primary must not emit payments that the new one does not have.
		return nil, err
	}
	base, err := l.append(ctx, events)
	if err != nil {
		return nil, err
	}
	l.acknowledged = &batch{base: base, ids: make([]payment.ID, len(events))}
	for i := range events {
		l.acknowledged.ids[i] = claim.Payments[i].ID
	}
	return l.acknowledged, nil
}

// append makes the one request to Kafka within a batch. The database transaction stays open during
// it, since its locks keep other senders from emitting these payments. store.PublishTimeout bounds
// it, and the session's timeouts allow for that.
func (l *locked) append(ctx context.Context, events []kafka.Event) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, store.PublishTimeout)
	defer cancel()
	began := time.Now()
	base, err := l.sender.Publisher.Publish(ctx, l.partition, events)
	l.sender.Metrics.published(time.Since(began), len(events), err)
	return base, err
}

// wentBack describes a log whose end was below next_offset.
func wentBack(p store.Partition, base int64) string {
	return fmt.Sprintf("the log went back: a batch was appended at offset %d, before the next offset %d: "+
		"acknowledged records are lost", base, p.NextOffset)
}
