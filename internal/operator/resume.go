package operator

import (
	"context"
	"errors"

	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/store"
)

// Choice is what an operator decides about payments of which it cannot be known whether they were
// emitted.
type Choice string

// The choices.
const (
	// Resend sends them (again): perhaps twice.
	Resend Choice = "resend"
	// AssumeSent marks them as sent: perhaps they never were.
	AssumeSent Choice = "assume-sent"
)

const (
	// InDoubtDefault is how many payments are in doubt by default if the log has lost anything:
	// what one batch holds by default.
	InDoubtDefault = 1000
	// InDoubtMax is what the largest batch holds.
	InDoubtMax = 10 * InDoubtDefault
)

// Resumption describes what resuming a halted partition does, or would do.
type Resumption struct {
	// Tail counts the payments of the log beyond next_offset that the table did not know.
	Tail store.Recovered
	// Unexpected counts the records passed over that are not ours or contradict the table.
	Unexpected int
	// Lost counts the payments marked at offsets that the log no longer has. Resend unmarks them,
	// AssumeSent leaves them.
	Lost int64
	// InDoubt counts the unsent payments that may be in what the log lost. Resend sends them,
	// AssumeSent marks them.
	InDoubt int
	// Unsent counts the payments that are sent from now on.
	Unsent int64
	// NextAt is the offset from which the log is ours.
	NextAt int64
}

// ResumeOptions are what the operator decides.
type ResumeOptions struct {
	Choice Choice
	// InDoubt is how many of the oldest unsent payments may be in what the log lost. A negative
	// number stands for InDoubtDefault if the log has lost anything, and for none otherwise.
	InDoubt int
	// DryRun changes nothing on record.
	DryRun bool
}

// Resume lets a halted partition be sent to again:
//
//   - The log is taken as it is. What can be read of it is brought into the table, and what
//     contradicts it is passed over.
//   - What is in doubt is decided by the choice.
//
// Like every reading of the log under the lock it fences the former producer, and ends a
// transaction that the producer has left open. A dry run does so, too.
func (op Operator) Resume(ctx context.Context, partition int32, options ResumeOptions) (r Resumption, err error) {
	arguments := store.PartitionArguments{
		Partition: partition, Choice: string(options.Choice), DryRun: options.DryRun,
	}
	if options.InDoubt >= 0 {
		arguments.InDoubt = &options.InDoubt
	}
	change := store.Change{Action: store.PartitionsResume, Arguments: arguments}
	o, err := op.begin(ctx, partition, change, func(p store.Partition) error {
		if p.State != store.StateHalted {
			return refusal(partition, "it is not halted")
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	defer o.close()
	r, err = op.resume(ctx, o, options)
	return r, op.end(ctx, o, err)
}

func (op Operator) resume(ctx context.Context, o *operation, options ResumeOptions) (r Resumption, err error) {
	claim, p := o.claim, o.claim.Partition
	log, reason, err := op.judge(ctx, o)
	open := log.TopicID == p.TopicID && log.StableEnd != log.End // It is part of the contradiction.
	if err == nil && open && !options.DryRun {
		err = recovery.EndHanging(ctx, o.ender(), o.claim, p, log)
		if errors.Is(err, recovery.ErrTransactionEnded) {
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
		r.Tail, err = op.readAll(ctx, claim, log.StableEnd, true)
		if err != nil {
			return r, err
		}
		r.Unexpected = r.Tail.Unexpected
	}
	if options.Choice == Resend && log.TopicID == p.TopicID && log.End < p.NextOffset {
		r.Lost, err = claim.UnmarkFrom(ctx, log.End)
		if err != nil {
			return r, err
		}
	}
	if err := op.decide(ctx, claim, p.NextOffset, options.Choice, doubt(lost, options.InDoubt), &r); err != nil {
		return r, err
	}
	if options.DryRun {
		return r, nil
	}
	if err := claim.ResumeAt(ctx, log.TopicID, log.End); err != nil {
		return r, err
	}
	after := stateOf(p)
	after.State, after.TopicID, after.NextOffset, after.Tail = store.StateActive, log.TopicID, log.End, countsOf(r.Tail)
	after.Lost, after.InDoubt = r.Lost, r.InDoubt
	return r, op.commit(ctx, o, after)
}

// doubt returns how many unsent payments may be in what the log lost: what one batch holds.
func doubt(lost bool, given int) int {
	switch {
	case given >= 0:
		return given
	case lost:
		return InDoubtDefault
	}
	return 0
}

// decide applies the choice to the oldest unsent payments, at most n. Had they been emitted, they
// would be behind what was recorded, at next.
func (op Operator) decide(
	ctx context.Context, claim *store.Claim, next int64, choice Choice, n int, r *Resumption,
) error {
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
		return refusal(claim.Partition.Number, "%d payments are in doubt, of which only %d can be claimed: "+
			"a party or account is missing, or another session holds the rows", r.InDoubt, n)
	}
	r.Unsent -= int64(r.InDoubt)
	return claim.MarkSent(ctx, next, r.InDoubt, next+int64(r.InDoubt))
}
