package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// Operator does to a partition what only an operator may decide. It works under the partition's lock, as a take-over does, while senders run.
type Operator struct {
	Store  *store.Store
	Fencer Fencer
	Log    Log
}

// operation is one piece of an operator's work: a claim on the partition, with the last holder kept from publishing.
type operation struct {
	session  *store.Session
	claim    *store.Claim
	producer Producer
}

func (o *operation) close() {
	o.claim.Rollback()
	o.session.Close()
	if o.producer != nil {
		o.producer.Close()
	}
}

const (
	// operationTimeout bounds what an operation asks of Kafka: a tail of some million records is read within it. The statements that read a whole table have bounds of their own.
	operationTimeout = 5 * time.Minute
	// The session's idle-in-transaction time-out ends an operation that is silent for longer: store.PublishTimeout and two seconds of margin are well below it.
	silenceMax = store.PublishTimeout + 2*time.Second
)

// errRefused tells an operator why nothing was done.
func errRefused(partition int32, format string, args ...any) error {
	return fmt.Errorf("partition %d: nothing was changed: %w", partition, fmt.Errorf(format, args...))
}

// begin claims the partition, and sees that whoever had it cannot publish any more: in fenced delivery by fencing, in locked delivery by waiting until what may be under
// way has ended. That it counts as a take-over comes after that, and proves that the partition is still locked: see fenced.fence.
func (op Operator) begin(ctx context.Context, partition int32) (*operation, error) {
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
	if err := op.fence(ctx, o); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (op Operator) fence(ctx context.Context, o *operation) (err error) {
	ctx, cancel := context.WithTimeout(ctx, silenceMax)
	defer cancel()
	p := o.claim.Partition
	if p.Delivery == store.Fenced {
		if err := o.claim.Confirm(ctx); err != nil {
			return err
		}
		o.producer, err = op.Fencer.Fence(ctx, p.Number, p.TransactionalID)
	} else {
		pause(ctx, store.PublishTimeout)
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return o.claim.TakeOver(ctx)
}

// judge is judgeAll, and once more when that had to end a transaction.
func (op Operator) judge(ctx context.Context, o *operation) (log kafka.Range, reason string, err error) {
	for range 2 {
		log, reason, err = op.judgeOnce(ctx, o)
		if !errors.Is(err, errEnded) {
			break
		}
	}
	if errors.Is(err, errUndecided) {
		err = errRefused(o.claim.Partition.Number, "%w", err)
	}
	return log, reason, err
}

func (op Operator) judgeOnce(ctx context.Context, o *operation) (kafka.Range, string, error) {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	if err := o.claim.TakeOver(ctx); err != nil { // So that the session is not silent for too long.
		return kafka.Range{}, "", err
	}
	return judgeAll(ctx, op.Log, o.producer, o.claim, o.claim.Partition)
}

// ErrSameDelivery says that there is nothing to change.
var ErrSameDelivery = errors.New("it has this delivery already")

// ChangeDelivery changes how an active partition's payments are published: the table is brought up to what the log says, and from the commit on only senders of
// the other delivery send to it. It returns how many records of the log's tail repeat payments, which locked delivery may have left.
func (op Operator) ChangeDelivery(ctx context.Context, partition int32, to store.Delivery) (tail store.Recovered, err error) {
	o, err := op.begin(ctx, partition)
	if err != nil {
		return tail, err
	}
	defer o.close()
	p := o.claim.Partition
	switch {
	case p.Delivery == to:
		return tail, ErrSameDelivery
	case p.State != store.Active:
		return tail, errRefused(partition, "it is halted (%s): resume it first", p.Reason)
	}
	log, reason, err := op.judge(ctx, o)
	if err != nil {
		return tail, err
	}
	if reason != "" {
		return tail, errRefused(partition, "%s", reason)
	}
	tail, err = op.readAll(ctx, o.claim, log.End, false)
	if err != nil {
		return tail, err
	}
	if tail.Strangers > 0 {
		return tail, errRefused(partition, "%s", tail.Strange[0])
	}
	if err := o.claim.SetDelivery(ctx, to); err != nil {
		return tail, err
	}
	return tail, op.commit(ctx, o.claim)
}

// commit puts the operation on record, and has the senders look.
func (op Operator) commit(ctx context.Context, claim *store.Claim) error {
	if err := claim.Commit(ctx); err != nil {
		return err
	}
	op.Store.AskToLook(ctx)
	return nil
}

// readAll brings the table up to what the log says, in the claim's transaction; strangers of both kinds are counted together. Unless they are to be passed over it ends at the
// first.
func (op Operator) readAll(ctx context.Context, claim *store.Claim, end int64, passOver bool) (all store.Recovered, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	for claim.Partition.NextOffset < end {
		tail, err := op.readStep(ctx, claim, min(end, claim.Partition.NextOffset+tailStepDefault))
		if err != nil {
			return all, err
		}
		all.Strangers += tail.strangers
		all.Strange = few(all.Strange, tail.examples)
		if tail.strangers > 0 && !passOver {
			return all, nil
		}
		step, err := claim.Recover(ctx, tail.found, tail.to, passOver)
		all.Marked += step.Marked
		all.Restored += step.Restored
		all.Repeated += step.Repeated
		all.Strangers += step.Strangers
		all.Strange = few(all.Strange, step.Strange)
		if err != nil || step.Strangers > 0 && !passOver {
			return all, err
		}
	}
	return all, nil
}

func (op Operator) readStep(ctx context.Context, claim *store.Claim, to int64) (tail, error) {
	ctx, cancel := context.WithTimeout(ctx, silenceMax)
	defer cancel()
	return readTail(ctx, op.Log, claim.Partition, to)
}

// few keeps the first examplesMax sentences.
func few(told, more []string) []string {
	told = append(told, more...)
	return told[:min(len(told), examplesMax)]
}

// Choice is what an operator decides about payments of which nobody can know whether they were emitted.
type Choice string

// The choices.
const (
	Resend     Choice = "resend"      // They are sent (again): perhaps twice.
	AssumeSent Choice = "assume-sent" // They are taken as sent: perhaps never.
)

// Resumption tells what resuming a halted partition does, or would do.
type Resumption struct {
	Tail      store.Recovered // Payments of the log beyond next_offset that the table did not know.
	Strangers int             // Records passed over that are not ours or contradict the table.
	Lost      int64           // Payments marked at offsets that the log no longer has: unmarked by Resend, left by AssumeSent.
	InDoubt   int             // Unsent payments that may be in what the log lost: sent by Resend, marked by AssumeSent.
	Unsent    int64           // Payments that are sent from now on.
	NextAt    int64           // The offset from which the log is ours.
}

// Resume lets a halted partition be sent to again, with the log taken as it is: what can be read of it is brought into the table, what contradicts it is passed over, and
// what is in doubt is decided by the choice. inDoubt is how many of the oldest unsent payments may be in what the log lost; a negative one takes a whole batch when anything is lost, and
// none otherwise. A dry run changes nothing on record. (Like every look at the log under the lock it fences the former producer, and ends what that has left hanging.)
func (op Operator) Resume(ctx context.Context, partition int32, choice Choice, inDoubt int, dryRun bool) (r Resumption, err error) {
	o, err := op.begin(ctx, partition)
	if err != nil {
		return r, err
	}
	defer o.close()
	claim, p := o.claim, o.claim.Partition
	if p.State != store.Halted {
		return r, errRefused(partition, "it is not halted")
	}
	log, reason, err := op.judge(ctx, o)
	if err == nil && log.TopicID == p.TopicID && log.StableEnd != log.End && !dryRun { // Part of the contradiction; it must not outlive it.
		if err = endHanging(ctx, o.producer, o.claim, p, log); errors.Is(err, errEnded) {
			log, reason, err = op.judge(ctx, o)
		}
	}
	if err != nil {
		return r, err
	}
	r.NextAt = log.End
	lost := reason != ""
	if log.TopicID == p.TopicID && log.End >= p.NextOffset {
		claim.Partition.NextOffset = max(p.NextOffset, log.Start)
		if r.Tail, err = op.readAll(ctx, claim, log.StableEnd, true); err != nil {
			return r, err
		}
		r.Strangers = r.Tail.Strangers
	}
	if choice == Resend && log.TopicID == p.TopicID && log.End < p.NextOffset {
		if r.Lost, err = claim.UnmarkFrom(ctx, log.End); err != nil {
			return r, err
		}
	}
	if err := op.decide(ctx, claim, p.NextOffset, choice, doubt(lost, inDoubt), &r); err != nil {
		return r, err
	}
	if dryRun {
		return r, nil
	}
	if err := claim.ResumeAt(ctx, log.TopicID, log.End); err != nil {
		return r, err
	}
	return r, op.commit(ctx, claim)
}

// doubt is how many unsent payments may be in what the log lost: what one pass had in hand.
func doubt(lost bool, given int) int {
	switch {
	case given >= 0:
		return given
	case lost:
		return BatchMaxDefault
	}
	return 0
}

// decide applies the choice to the oldest unsent payments, at most n. Had they been emitted, they would be behind what was recorded, at next.
func (op Operator) decide(ctx context.Context, claim *store.Claim, next int64, choice Choice, n int, r *Resumption) error {
	unsent, err := claim.Unsent(ctx)
	if err != nil {
		return err
	}
	r.InDoubt, r.Unsent = int(min(int64(n), unsent)), unsent
	if choice == Resend || r.InDoubt == 0 {
		return nil
	}
	if err := claim.ClaimPayments(ctx, r.InDoubt); err != nil {
		return err
	}
	if n := len(claim.Payments); n < r.InDoubt {
		return errRefused(claim.Partition.Number, "%d payments are in doubt, of which only %d can be claimed: a party or account is missing, or another session holds the rows", r.InDoubt, n)
	}
	r.Unsent -= int64(r.InDoubt)
	return claim.MarkSent(ctx, next, r.InDoubt, next+int64(r.InDoubt))
}
