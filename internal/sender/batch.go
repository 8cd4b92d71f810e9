package sender

import (
	"context"
	"errors"
	"fmt"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// sendBatch sends the next batch of the partition's payments, in order: claim, publish, mark,
// commit. again reports that there may be more. What is on record if power fails during the publish
// is said at the delivery's publish. If it fails
//
//	before the publish: nothing has happened;
//	after it:           the batch is in the log, and its rows are `created`. In fenced delivery
//	                    the next takeover marks them; in locked delivery the batch is repeated;
//	after the commit:   the batch is in the log once, and marked with its offsets.
func (w *partitionWorker) sendBatch(ctx context.Context) (again bool, err error) {
	unsent, err := w.mayHaveUnsent(ctx)
	if err != nil {
		return false, err
	}
	if !unsent {
		// Before the worker is idle, what it has sent must be visible.
		if err := w.delivery.settle(ctx); err != nil {
			return false, err
		}
		return false, w.endCheck.poll(w.sender, w.known)
	}

	claim, err := w.claim(ctx)
	if err != nil {
		return false, err
	}
	defer claim.Rollback()
	if len(claim.Payments) == 0 {
		return true, nil
	}
	sent, err := w.delivery.publish(ctx, claim, w.known)
	if reason := haltReason(err); reason != "" {
		return false, w.halt(ctx, claim, reason)
	}
	if err != nil {
		return false, err
	}
	if err := w.record(ctx, claim, sent); err != nil {
		return false, err
	}
	w.count(claim.Payments[:sent.count])
	return true, nil
}

// mayHaveUnsent reports whether the partition may have unsent payments. If a notification or a full
// batch suggests so, it skips the query and lets the claim find out. An empty claim costs one
// transaction id. That only happens under load, since without new payments there is no hint.
func (w *partitionWorker) mayHaveUnsent(ctx context.Context) (bool, error) {
	if w.hasHint {
		return true, nil
	}
	return w.session.HasUnsent(ctx)
}

// errNothingClaimed means that there are unsent payments that a claim does not see. A session
// outside of this program has locked them, or an operator has just changed them.
var errNothingClaimed = errors.New("there are unsent payments, but none can be claimed: another session holds the rows")

// claim claims the next batch, if this process may send it. The batch is empty if a hint was wrong.
func (w *partitionWorker) claim(ctx context.Context) (*store.Claim, error) {
	claim, err := w.session.Claim(ctx, w.sender.BatchMax)
	if err != nil {
		return nil, err
	}
	err = w.checkMaySend(claim.Partition)
	if err == nil && len(claim.Payments) == 0 && !w.hasHint {
		err = fmt.Errorf("partition %d: %w", w.partition, errNothingClaimed)
	}
	if err != nil {
		claim.Rollback()
		return nil, err
	}
	w.hasHint = len(claim.Payments) == w.sender.BatchMax
	return claim, nil
}

// checkMaySend returns an error if this process may not send to the partition. The caller holds the
// partition's lock.
func (w *partitionWorker) checkMaySend(p store.Partition) error {
	switch {
	case p.State != store.StateActive:
		return fmt.Errorf("partition %d is %w: %s", p.Number, errHalted, p.Reason)
	case p.Delivery != w.sender.Delivery:
		return fmt.Errorf("partition %d is %w for this process: its delivery is %s", p.Number, errHalted, p.Delivery)
	}
	return nil
}

// record marks the batch sent, and commits. If the batch was appended before the next offset,
// records that were acknowledged before are gone: the marks are right, and the partition halts.
func (w *partitionWorker) record(ctx context.Context, claim *store.Claim, sent batch) error {
	ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
	defer cancel()
	if err := claim.MarkSent(ctx, sent.base, sent.count, sent.next); err != nil {
		return err
	}
	w.sender.at(w.partition, BatchMarked)
	if sent.base < claim.Partition.NextOffset {
		return w.halt(ctx, claim, wentBack(claim.Partition, sent.base))
	}
	if err := claim.Commit(ctx); err != nil {
		return err
	}
	w.sender.at(w.partition, BatchRecorded)
	w.known.NextOffset = sent.next
	w.delivery.recorded(sent)
	return nil
}

// wentBack describes a log whose end was below next_offset.
func wentBack(p store.Partition, base int64) string {
	return fmt.Sprintf("the log went back: a batch was appended at offset %d, before the next offset %d: "+
		"acknowledged records are lost", base, p.NextOffset)
}

// halt halts the partition for an operator, and puts all marks of the claim on record.
func (w *partitionWorker) halt(ctx context.Context, claim *store.Claim, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
	defer cancel()
	if err := claim.Halt(ctx, reason); err != nil {
		return err
	}
	if err := claim.Commit(ctx); err != nil {
		return err
	}
	return fmt.Errorf("partition %d is now %w: %s", w.partition, errHalted, reason)
}

// count counts payments that are on record as sent.
func (w *partitionWorker) count(payments []payment.Payment) {
	w.failures.Store(0)
	w.sender.worked.Store(true)
	w.sender.Metrics.sent(payments)
}
