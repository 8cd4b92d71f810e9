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

// locked delivers a partition's payments with nothing asked of the broker but acks. The session's
// locks keep others from emitting them meanwhile; what a crash interrupts between publish and
// commit is repeated.
type locked struct {
	*owner
	tookOver bool
	// What is in the topic and could not be marked; nil when nothing is.
	acknowledged *batch
}

// work takes the partition over once; then it makes passes.
func (l *locked) work(ctx context.Context) (again bool, err error) {
	if l.tookOver {
		return l.pass(ctx)
	}
	return true, l.takeOver(ctx)
}

// failed keeps the session and what was acknowledged under it, unless the session is gone.
func (l *locked) failed() {
	if l.session.Lost() {
		l.session.Close()
		l.session, l.tookOver, l.acknowledged = nil, false, nil
	}
}

// indebted implements delivery: with a batch that is acknowledged and not marked, giving up would
// have another owner repeat it.
func (l *locked) indebted() bool { return l.acknowledged != nil }

// takeOver makes sure, under the partition's lock, that the topic is the one the payments so far
// went to, and that none of them can have been lost there. Otherwise the partition halts: nothing
// is guessed, an operator decides.
func (l *locked) takeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recovery.Timeout)
	defer cancel()
	claim, err := l.session.Claim(ctx, 0)
	if err != nil {
		return err
	}
	defer claim.Rollback()
	if err := l.mayNotSend(claim.Partition); err != nil {
		return err
	}
	_, reason, err := recovery.Judge(ctx, l.sender.Log, claim.Partition)
	if err != nil {
		return err
	}
	if reason != "" {
		return l.halt(ctx, claim, reason)
	}
	l.tookOver, l.known = true, claim.Partition
	return nil
}

// pass sends one batch of the partition's payments, in order, and tells whether there may be more.
// Whatever fails, the payments that are not marked stay `created` and will be sent by a later pass,
// here or elsewhere. If power fails
//
//	before publish:  nothing happened;
//	during publish:  the batch may be in the topic, but is not marked: it is repeated (the limit of locked delivery);
//	before commit:   the batch is in the topic, but not marked: it will be repeated;
//	after commit:    the batch is in the topic once, and marked with its offsets.
func (l *locked) pass(ctx context.Context) (again bool, err error) {
	unsent, err := l.mayHaveUnsent(ctx)
	if err != nil {
		return false, err
	}
	if !unsent {
		err := l.endCheck.poll(l.sender, l.known)
		if err != nil {
			l.tookOver = false // The session is kept, and the log judged again.
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
	if refused, ok := errors.AsType[*kafka.Refused](err); ok {
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
		// These are where the broker said; what was acknowledged before is gone, though.
		return false, l.halt(ctx, claim, wentBack(claim.Partition, sent.base))
	}
	if err := claim.Commit(ctx); err != nil {
		return false, err
	}
	l.acknowledged, l.known.NextOffset = nil, sent.base+int64(len(sent.ids))
	l.sent(claim.Payments[:len(sent.ids)])
	return true, nil
}

// batch is what the broker has acknowledged.
type batch struct {
	ids []payment.ID
	// The offset of the first; the others follow.
	base int64
}

// isOf tells whether the batch is the beginning of the claim.
func (b *batch) isOf(claim *store.Claim) bool {
	return b != nil && len(b.ids) <= len(claim.Payments) &&
		slices.EqualFunc(b.ids, claim.Payments[:len(b.ids)],
			func(id payment.ID, p payment.Payment) bool { return id == p.ID })
}

// publish has the claim's payments appended to the topic, as many as fit into one batch. A batch
// that was acknowledged in an earlier pass of this owner and could not be marked then (a full disk,
// say) is not published again.
func (l *locked) publish(ctx context.Context, claim *store.Claim) (*batch, error) {
	if l.acknowledged.isOf(claim) {
		return l.acknowledged, nil
	}
	events, err := l.encode(claim.Payments)
	if err != nil {
		return nil, err
	}
	if err := claim.Confirm(ctx); err != nil {
		// An isolated primary must not emit what the new one does not have.
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

// append makes the one call to Kafka within a pass. The database transaction stays open meanwhile,
// on purpose: its locks are what keeps others from emitting these payments. It is bounded by
// store.PublishTimeout, which the session's time-outs allow for.
func (l *locked) append(ctx context.Context, events []kafka.Event) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, store.PublishTimeout)
	defer cancel()
	began := time.Now()
	base, err := l.sender.Publisher.Publish(ctx, l.partition, events)
	l.sender.Metrics.published(time.Since(began), len(events), err)
	return base, err
}

func wentBack(p store.Partition, base int64) string {
	return fmt.Sprintf("the log went back: a batch was appended at offset %d, before the next offset %d: "+
		"acknowledged records are lost", base, p.NextOffset)
}
