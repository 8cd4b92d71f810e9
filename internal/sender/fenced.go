package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/store"
)

// Producer publishes to one partition until another one is made for the same transactional id;
// package kafka says what it promises.
type Producer interface {
	Settled(ctx context.Context, next int64) error
	Produce(ctx context.Context, next int64, events []kafka.Event) error
	Commit(ctx context.Context) error
	EndHanging(ctx context.Context, commit bool) error
	Close()
}

// Fencer makes the one producer that may publish to a partition.
type Fencer interface {
	Fence(ctx context.Context, partition int32, transactionalID string) (Producer, error)
}

// FencerOf makes producers with package kafka's fencer.
func FencerOf(f *kafka.Fencer) Fencer { return kafkaFencer{f} }

type kafkaFencer struct{ *kafka.Fencer }

// Fence implements Fencer.
func (f kafkaFencer) Fence(ctx context.Context, partition int32, transactionalID string) (Producer, error) {
	p, err := f.Fencer.Fence(ctx, partition, transactionalID)
	if err != nil {
		return nil, err // Not p, which would be an interface that is not nil.
	}
	return p, nil
}

// fenced delivers a partition's payments exactly once, as read_committed consumers see it. What it
// rests on: the log alone says what was emitted; a payment is selected only when the table knows
// all of the log; and only one producer can commit.
//
// After any error, from Kafka or PostgreSQL, the producer and the session are dropped, and the next
// piece of work is a take-over. There is one branch on what the error was: a batch that the broker
// refuses for what it is halts the partition. It is refused before it could be committed, and its
// rows stay `created`.
type fenced struct {
	*owner
	// Nil until the partition is taken over, and after any error.
	producer Producer
	// The table knows all of the log.
	caughtUp bool
	// What looks for the marker of the last batch; nil once it has been seen.
	marker *marker

	// Of the take-over under way,
	began time.Time
	// and what it found.
	tail store.Recovered
}

// work takes the partition over, a step of the tail at a time; then it makes passes.
func (f *fenced) work(ctx context.Context) (again bool, err error) {
	if f.caughtUp {
		return f.pass(ctx)
	}
	return true, f.takeOver(ctx)
}

// failed drops all that may be in doubt.
func (f *fenced) failed() {
	f.session.Close() // First: whoever comes next need not wait for it.
	if f.marker != nil {
		f.marker.giveUp()
	}
	if f.producer != nil {
		f.producer.Close()
	}
	f.session, f.producer, f.caughtUp, f.marker = nil, nil, false, nil
}

// indebted implements delivery: nobody else does worse.
func (f *fenced) indebted() bool { return false }

// takeOver makes a step towards the table's knowing all of the log, under the partition's lock. The
// first one fences whoever had the partition before. If power fails
//
//	before the fence:  nothing happened;
//	after it:          whoever had the partition cannot publish any more, and takes over again;
//	before a commit:   the step is made again, by whoever comes next;
//	after it:          the table knows the log up to next_offset, and the next step goes on from there.
func (f *fenced) takeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recovery.Timeout)
	defer cancel()
	claim, err := f.session.Claim(ctx, 0)
	if err != nil {
		return err
	}
	defer claim.Rollback()
	f.at(TakeOverClaimed)
	if err := f.mayNotSend(claim.Partition); err != nil {
		return err
	}

	if f.producer == nil {
		err = f.fence(ctx, claim)
	} else {
		err = f.remembers(claim.Partition)
	}
	if err != nil {
		return err
	}

	log, reason, err := recovery.JudgeStable(ctx, f.sender.Log, f.producer, claim, claim.Partition)
	f.undecided(log, err)
	if err != nil {
		return err
	}
	if reason != "" {
		return f.halt(ctx, claim, reason)
	}

	step, reason, err := f.recover(ctx, claim, log.End)
	if err != nil {
		return err
	}
	if reason != "" {
		return f.halt(ctx, claim, reason)
	}
	f.at(TakeOverMarked)
	if err := claim.Commit(ctx); err != nil {
		return err
	}
	f.at(TakeOverCommitted)
	f.known = claim.Partition
	f.tail.Marked += step.Marked
	f.tail.Restored += step.Restored
	if f.known.NextOffset == log.End {
		f.done()
	}
	return nil
}

// undecided has operators see what keeps a take-over from knowing the log.
func (f *fenced) undecided(log kafka.Range, err error) {
	f.sender.Metrics.undecided(f.partition, log.End-log.StableEnd)
	if errors.Is(err, recovery.ErrOpenTransaction) {
		f.sender.Logger.Warn("the log is undecided", "partition", f.partition, "stable_end", log.StableEnd, "end",
			log.End, "error", err)
	}
}

// fence makes the one producer that may publish, and counts the take-over: after the fence, and in
// this order. That the row is still locked then proves that what it says is still so, and that
// whatever hangs was left before the fence; a zombie that fences its heir with a row from before
// would abort what the heir has put on record (the model finds it).
func (f *fenced) fence(ctx context.Context, claim *store.Claim) (err error) {
	f.began, f.tail = time.Now(), store.Recovered{}
	if err := claim.Confirm(ctx); err != nil {
		// An isolated primary's sender must not fence the new one's.
		return err
	}
	if f.producer, err = f.sender.Fencer.Fence(ctx, f.partition, claim.Partition.TransactionalID); err != nil {
		return err
	}
	f.at(TakeOverFenced)
	if err := claim.CountTakeover(ctx); err != nil {
		return err
	}
	return f.knowsAllPartitions(ctx, claim)
}

// knowsAllPartitions refuses a database that was put back to a copy from before the topic grew:
// payments in the partitions that it does not know would be taken, and sent, again.
func (f *fenced) knowsAllPartitions(ctx context.Context, claim *store.Claim) error {
	topic := claim.Partition.Topic
	known, err := claim.Partitions(ctx)
	if err != nil {
		return err
	}
	unknown, all, err := f.sender.Log.Beyond(ctx, topic, int32(len(known))) //nolint:gosec // G115: at most 1,000.
	if err != nil {
		return err
	}
	if unknown >= 0 {
		return fmt.Errorf("partition %d of topic %s holds records, and the database knows only %d partitions, "+
			"as if an earlier copy had been restored: "+
			"run `paylatch partitions grow %d` before payments are taken", unknown, topic, len(known), all)
	}
	return nil
}

// remembers tells whether nobody had the partition since this owner's last commit.
func (f *fenced) remembers(p store.Partition) error {
	if p.Generation != f.known.Generation || p.NextOffset != f.known.NextOffset {
		return fmt.Errorf("partition %d was taken meanwhile: generation %d and next offset %d, left at %d and %d",
			p.Number, p.Generation, p.NextOffset, f.known.Generation, f.known.NextOffset)
	}
	return nil
}

func (s *Sender) tailStep() int64 {
	if s.TailStep > 0 {
		return int64(s.TailStep)
	}
	return recovery.StepDefault
}

// recover brings the payments of a step of the log between next_offset and the offset end into the
// table. A reason is what in there cannot be.
func (f *fenced) recover(ctx context.Context, claim *store.Claim, end int64) (step store.Recovered, reason string,
	err error) {
	tail, err := recovery.ReadTail(ctx, f.sender.Log, claim.Partition,
		min(end, claim.Partition.NextOffset+f.sender.tailStep()))
	switch {
	case err != nil:
		return step, "", err
	case tail.Unexpected > 0:
		return step, tail.Examples[0], nil
	}
	f.at(TakeOverRead)
	step, err = claim.Recover(ctx, tail.Found, tail.To, false)
	switch {
	case err != nil:
	case len(step.UnexpectedReasons) > 0:
		reason = step.UnexpectedReasons[0]
	case step.Repeated > 0:
		reason = fmt.Sprintf("%d records of the log below offset %d repeat payments", step.Repeated, tail.To)
	}
	return step, reason, err
}

// done ends a take-over.
func (f *fenced) done() {
	f.caughtUp = true
	f.sender.Metrics.tookOver(time.Since(f.began), f.tail)
	f.sender.Logger.Info("took the partition over", "partition", f.partition, "generation", f.known.Generation,
		"next_offset", f.known.NextOffset,
		"found", f.tail.Marked, "restored", f.tail.Restored, "took", time.Since(f.began))
	f.at(TakeOverDone)
}

// pass emits one batch of the partition's payments, in order, and tells whether there may be more.
// If power fails
//
//	before produce:  nothing happened, unless the marker of the batch before is lost: the next take-over writes it;
//	before commit:   the records are undecided: the next take-over aborts them, and the rows are `created`;
//	during commit:   the log decides, and the next take-over reads it;
//	after commit:    the records are in the log, and the next take-over marks their rows;
//	after the mark's commit: the batch is in the log once, and marked where it is.
func (f *fenced) pass(ctx context.Context) (again bool, err error) {
	unsent, err := f.mayHaveUnsent(ctx)
	if err != nil {
		return false, err
	}
	if !unsent {
		if err := f.settle(ctx); err != nil { // Before it rests: what it has sent must be seen.
			return false, err
		}
		return false, f.endCheck.poll(f.sender, f.known)
	}

	claim, err := f.claim(ctx)
	if err != nil {
		return false, err
	}
	defer claim.Rollback()
	if err := f.remembers(claim.Partition); err != nil {
		return false, err
	}
	if len(claim.Payments) == 0 {
		return true, nil
	}
	events, err := f.encode(claim.Payments)
	if err != nil {
		return false, err
	}
	f.at(PassSelected)

	err = f.publish(ctx, claim, events)
	if refused, ok := errors.AsType[*kafka.Refused](err); ok {
		return false, f.halt(ctx, claim, refused.Error())
	}
	if err != nil {
		return false, err
	}
	f.at(PassCommitted)

	ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
	defer cancel()
	after := f.known.NextOffset + int64(len(events)) + 1 // The transaction's marker takes one.
	if err := claim.MarkSent(ctx, f.known.NextOffset, len(events), after); err != nil {
		return false, err
	}
	f.at(PassMarked)
	if err := claim.Commit(ctx); err != nil {
		return false, err
	}
	f.at(PassRecorded)
	f.known.NextOffset = after
	f.marker = lookFor(f.producer, after)
	f.sent(claim.Payments[:len(events)])
	return true, nil
}

// publish appends the events and commits them, in one Kafka transaction, once the log says what
// became of the one before. Its bound lies below the transaction's own time-out.
func (f *fenced) publish(ctx context.Context, claim *store.Claim, events []kafka.Event) error {
	ctx, cancel := context.WithTimeout(ctx, store.PublishTimeout)
	defer cancel()
	began := time.Now()
	err := f.settle(ctx)
	if err == nil {
		// What only an isolated primary has must not be emitted before what the new one has.
		err = claim.Confirm(ctx)
	}
	if err == nil {
		err = f.producer.Produce(ctx, f.known.NextOffset, events)
	}
	if err == nil {
		f.at(PassProduced)
		err = f.producer.Commit(ctx)
	}
	f.sender.Metrics.published(time.Since(began), len(events), err)
	return err
}

// settle waits for the marker of the last batch, once.
func (f *fenced) settle(ctx context.Context) error {
	if f.marker == nil {
		return nil
	}
	select {
	case <-f.marker.answered:
		err := f.marker.err
		f.marker.giveUp()
		f.marker = nil // Also after an error, which drops all else.
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// marker looks for a transaction's marker while the next batch is claimed: that need not wait, and
// by now the marker is there in all likelihood.
type marker struct {
	answered chan struct{}
	// The answer, once there is one.
	err    error
	cancel context.CancelFunc
}

func lookFor(p Producer, next int64) *marker {
	ctx, cancel := context.WithCancel(context.Background()) // Settled bounds itself.
	m := &marker{answered: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(m.answered)
		m.err = p.Settled(ctx, next)
	}()
	return m
}

// giveUp ends the look, and returns when the producer is not used for it any more.
func (m *marker) giveUp() {
	m.cancel()
	<-m.answered
}
