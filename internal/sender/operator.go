package sender

import (
	"context"
	"errors"
	"fmt"

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

// errRefused tells an operator why nothing was done.
func errRefused(partition int32, format string, args ...any) error {
	return fmt.Errorf("partition %d: nothing was changed: %w", partition, fmt.Errorf(format, args...))
}

// begin claims the partition, and sees that whoever had it cannot publish any more: in fenced delivery by fencing, in locked delivery by waiting until what may be under
// way has ended.
func (op Operator) begin(ctx context.Context, partition int32) (*operation, error) {
	session, err := op.Store.Operate(ctx, partition)
	if err != nil {
		return nil, err
	}
	claim, err := session.ClaimWaiting(ctx, 0)
	if err != nil {
		session.Close()
		return nil, fmt.Errorf("partition %d: %w", partition, err)
	}
	o := &operation{session: session, claim: claim}
	if claim.Partition.Delivery == store.Fenced {
		o.producer, err = op.Fencer.Fence(ctx, partition, claim.Partition.TransactionalID)
	} else {
		pause(ctx, store.PublishTimeout)
		err = ctx.Err()
	}
	if err != nil {
		o.close()
		return nil, err
	}
	return o, nil
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
	log, reason, err := judge(ctx, op.Log, p)
	if err != nil {
		return tail, err
	}
	if reason != "" {
		return tail, errRefused(partition, "%s", reason)
	}
	tail, strangers, err := op.readAll(ctx, o.claim, log.End, false)
	if err != nil {
		return tail, err
	}
	if strange := append(strangers, tail.Strange...); len(strange) > 0 {
		return tail, errRefused(partition, "%s", strange[0])
	}
	if err := o.claim.SetDelivery(ctx, to); err != nil {
		return tail, err
	}
	return tail, op.commit(ctx, o.claim)
}

// commit puts the operation on record as a take-over, and has the senders look.
func (op Operator) commit(ctx context.Context, claim *store.Claim) error {
	if err := claim.TakeOver(ctx); err != nil {
		return err
	}
	if err := claim.Commit(ctx); err != nil {
		return err
	}
	op.Store.AskToLook(ctx)
	return nil
}

// readAll brings the table up to what the log says, in the claim's transaction.
func (op Operator) readAll(ctx context.Context, claim *store.Claim, end int64, passOver bool) (tail store.Recovered, strangers []string, err error) {
	for claim.Partition.NextOffset < end {
		to := min(end, claim.Partition.NextOffset+tailStep)
		found, unknown, err := readTail(ctx, op.Log, claim.Partition, to)
		if err != nil {
			return tail, strangers, err
		}
		strangers = append(strangers, unknown...)
		if len(unknown) > 0 && !passOver {
			return tail, strangers, nil
		}
		step, err := claim.Recover(ctx, found, to, passOver)
		tail.Marked += step.Marked
		tail.Restored += step.Restored
		tail.Repeated += step.Repeated
		tail.Strange = append(tail.Strange, step.Strange...)
		if err != nil || len(step.Strange) > 0 && !passOver {
			return tail, strangers, err
		}
	}
	return tail, strangers, nil
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
// none otherwise. A dry run changes nothing.
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
	log, reason, err := judge(ctx, op.Log, p)
	if err != nil {
		return r, err
	}
	r.NextAt = log.End
	lost := reason != ""
	if log.TopicID == p.TopicID && log.End >= p.NextOffset {
		claim.Partition.NextOffset = max(p.NextOffset, log.Start)
		var strangers []string
		if r.Tail, strangers, err = op.readAll(ctx, claim, log.End, true); err != nil {
			return r, err
		}
		r.Strangers = len(strangers) + len(r.Tail.Strange)
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
	r.Unsent -= int64(r.InDoubt)
	return claim.MarkSent(ctx, next, r.InDoubt, next+int64(r.InDoubt))
}
