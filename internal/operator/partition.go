// Package operator carries out what only an operator may decide: to set an installation up, to add
// partitions, to change how they are emitted, and to halt and resume them. All of it works while
// payments are taken and senders run.
package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/sleep"
	"github.com/paylatch/paylatch/internal/store"
)

// Operator changes single partitions. It works under the partition's lock, as a takeover does.
type Operator struct {
	Store  *store.Store
	Fencer *kafka.Fencer
	Log    recovery.Log
}

// operation is one piece of an operator's work: a claim on the partition, whose last holder can no
// longer publish.
type operation struct {
	session  *store.Session
	claim    *store.Claim
	producer *kafka.Producer // Nil in locked delivery.
	// logged has a row in the operator's log since before the fence, the first effect in Kafka.
	logged *store.Operation
}

// ender returns what ends an open transaction; nil in locked delivery.
func (o *operation) ender() recovery.Ender {
	if o.producer == nil {
		return nil // Not the nil pointer, which would be an interface that is not nil.
	}
	return o.producer
}

func (o *operation) close() {
	o.claim.Rollback()
	o.session.Close()
	if o.producer != nil {
		o.producer.Close()
	}
}

const (
	// logTimeout bounds the reading of the log: a tail of some million records is read within it.
	// The statements that read a whole table have bounds of their own.
	logTimeout = 5 * time.Minute
	// silenceMax is below the session's idle-in-transaction time-out, which ends an operation that
	// is silent for longer.
	silenceMax = store.PublishTimeout + 2*time.Second
)

// errRefused is wrapped by refusals.
var errRefused = errors.New("nothing was changed")

// refusal says why nothing was changed.
func refusal(partition int32, format string, args ...any) error {
	return fmt.Errorf("partition %d: %w: %w", partition, errRefused, fmt.Errorf(format, args...))
}

// begin claims the partition, unless may returns an error, and makes sure that its former owner can
// no longer publish: in fenced delivery by fencing, in locked delivery by waiting until what may be
// under way has ended. The takeover is counted after that, which proves that the partition is still
// locked: see package sender, fenced.fence.
//
// The operator's log has a row with the change before the fence. Call end when the work has ended.
func (op Operator) begin(
	ctx context.Context, partition int32, change store.Change, may func(store.Partition) error,
) (*operation, error) {
	session, err := op.Store.Operate(ctx, partition)
	if err != nil {
		return nil, err
	}
	claim, err := session.ClaimWaiting(ctx)
	if err != nil {
		session.Close()
		return nil, fmt.Errorf("partition %d: %w", partition, err)
	}
	o := &operation{session: session, claim: claim}
	if err := op.prepare(ctx, o, change, may); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (op Operator) prepare(
	ctx context.Context, o *operation, change store.Change, may func(store.Partition) error,
) (err error) {
	p := o.claim.Partition
	if err := may(p); err != nil {
		return err
	}
	change.Before = stateOf(p)
	o.logged, err = o.claim.BeginOperation(ctx, change)
	if err != nil {
		return err
	}
	if err := op.fence(ctx, o); err != nil {
		return op.end(ctx, o, err)
	}
	return nil
}

func (op Operator) fence(ctx context.Context, o *operation) (err error) {
	ctx, cancel := context.WithTimeout(ctx, silenceMax)
	defer cancel()
	p := o.claim.Partition
	if p.Delivery == store.DeliveryFenced {
		if err := o.claim.Confirm(ctx); err != nil {
			return err
		}
		o.producer, err = op.Fencer.Fence(ctx, p.Number, p.TransactionalID)
	} else {
		err = sleep.For(ctx, store.PublishTimeout)
	}
	if err != nil {
		return err
	}
	return o.claim.CountTakeover(ctx)
}

// judge judges the log, and a second time if that had to end a transaction.
func (op Operator) judge(ctx context.Context, o *operation) (log kafka.Range, reason string, err error) {
	for range 2 {
		log, reason, err = op.judgeOnce(ctx, o)
		if !errors.Is(err, recovery.ErrTransactionEnded) {
			break
		}
	}
	if errors.Is(err, recovery.ErrOpenTransaction) {
		err = refusal(o.claim.Partition.Number, "%w", err)
	}
	return log, reason, err
}

func (op Operator) judgeOnce(ctx context.Context, o *operation) (kafka.Range, string, error) {
	ctx, cancel := context.WithTimeout(ctx, recovery.Timeout)
	defer cancel()
	if err := o.claim.CountTakeover(ctx); err != nil { // So that the session is not silent for too long.
		return kafka.Range{}, "", err
	}
	return recovery.JudgeStable(ctx, op.Log, o.ender(), o.claim, o.claim.Partition)
}

// ErrSameDelivery says that there is nothing to change.
var ErrSameDelivery = errors.New("it has this delivery already")

// ChangeDelivery changes how the payments of an active partition are emitted. The table is brought
// up to what the log says, and from the commit on only senders of the other delivery send to the
// partition. It returns what was found in the tail of the log; locked delivery may have left
// records there that repeat payments.
func (op Operator) ChangeDelivery(
	ctx context.Context, partition int32, to store.Delivery,
) (tail store.Recovered, err error) {
	change := store.Change{
		Action: store.PartitionsMode, Arguments: store.PartitionArguments{Partition: partition, Delivery: to},
	}
	o, err := op.begin(ctx, partition, change, func(p store.Partition) error {
		switch {
		case p.Delivery == to:
			return ErrSameDelivery
		case p.State != store.StateActive:
			return refusal(partition, "it is halted (%s): resume it first", p.Reason)
		}
		return nil
	})
	if err != nil {
		return tail, err
	}
	defer o.close()
	tail, err = op.changeDelivery(ctx, o, to)
	return tail, op.end(ctx, o, err)
}

func (op Operator) changeDelivery(
	ctx context.Context, o *operation, to store.Delivery,
) (tail store.Recovered, err error) {
	log, reason, err := op.judge(ctx, o)
	if err != nil {
		return tail, err
	}
	if reason != "" {
		return tail, refusal(o.claim.Partition.Number, "%s", reason)
	}
	tail, err = op.readAll(ctx, o.claim, log.End, false)
	if err != nil {
		return tail, err
	}
	if tail.Unexpected > 0 {
		return tail, refusal(o.claim.Partition.Number, "%s", tail.UnexpectedReasons[0])
	}
	if err := o.claim.SetDelivery(ctx, to); err != nil {
		return tail, err
	}
	after := stateOf(o.claim.Partition)
	after.Delivery, after.Tail = to, countsOf(tail)
	return tail, op.commit(ctx, o, after)
}

// commit puts the operation on record, with the state after it, and notifies the senders.
func (op Operator) commit(ctx context.Context, o *operation, after partitionState) error {
	if err := o.claim.EndOperation(ctx, o.logged, after); err != nil {
		return err
	}
	if err := o.claim.Commit(ctx); err != nil {
		return err
	}
	op.Store.RequestRebalance(ctx)
	return nil
}

// readAll brings the table up to what the log says, in the claim's transaction. Unexpected records
// of both kinds, those that are no events and those that contradict the table, are counted
// together. Unless they are to be passed over, it ends at the first one.
func (op Operator) readAll(
	ctx context.Context, claim *store.Claim, end int64, passOver bool,
) (all store.Recovered, err error) {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	for claim.Partition.NextOffset < end {
		tail, err := op.readStep(ctx, claim, min(end, claim.Partition.NextOffset+recovery.StepDefault))
		if err != nil {
			return all, err
		}
		all.Unexpected += tail.Unexpected
		all.UnexpectedReasons = few(all.UnexpectedReasons, tail.Examples)
		if tail.Unexpected > 0 && !passOver {
			return all, nil
		}
		step, err := claim.Recover(ctx, tail.Found, tail.To, passOver)
		all.Marked += step.Marked
		all.Restored += step.Restored
		all.Repeated += step.Repeated
		all.Unexpected += step.Unexpected
		all.UnexpectedReasons = few(all.UnexpectedReasons, step.UnexpectedReasons)
		if err != nil || step.Unexpected > 0 && !passOver {
			return all, err
		}
	}
	return all, nil
}

func (op Operator) readStep(ctx context.Context, claim *store.Claim, to int64) (recovery.Tail, error) {
	ctx, cancel := context.WithTimeout(ctx, silenceMax)
	defer cancel()
	return recovery.ReadTail(ctx, op.Log, claim.Partition, to)
}

// few returns the first recovery.ExamplesMax sentences.
func few(sentences, more []string) []string {
	sentences = append(sentences, more...)
	return sentences[:min(len(sentences), recovery.ExamplesMax)]
}
