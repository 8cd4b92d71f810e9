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

// Producer publishes to one partition until another producer is made for the same transactional id.
// See kafka.Producer.
type Producer interface {
	AwaitStable(ctx context.Context, next int64) error
	Produce(ctx context.Context, next int64, events []kafka.Event) error
	Commit(ctx context.Context) error
	EndHanging(ctx context.Context, commit bool) error
	Close()
}

// Fencer makes the one producer that may publish to a partition.
type Fencer interface {
	Fence(ctx context.Context, partition int32, transactionalID string) (Producer, error)
}

// FencerOf returns a Fencer that uses f.
func FencerOf(f *kafka.Fencer) Fencer { return kafkaFencer{f} }

type kafkaFencer struct{ *kafka.Fencer }

// Fence implements Fencer.
func (f kafkaFencer) Fence(ctx context.Context, partition int32, transactionalID string) (Producer, error) {
	p, err := f.Fencer.Fence(ctx, partition, transactionalID)
	if err != nil {
		return nil, err // Not p: an interface that holds a nil pointer is not nil.
	}
	return p, nil
}

// fenced delivers the payments of a partition exactly once, as read_committed consumers see them.
// It relies on three rules. The log alone says what was emitted. A payment is selected only when
// the table has all of the log. Only one producer can commit.
//
// After any error, of Kafka or PostgreSQL, the producer and the session are dropped, and a takeover
// follows. Only one kind of error is treated differently: a batch that the broker refuses for its
// content halts the partition. It is refused before it could be committed, and its rows stay
// `created`.
type fenced struct {
	*owner
	// producer is nil until the fence of a takeover, and after any error.
	producer Producer
	// caughtUp is true if the table has all of the log.
	caughtUp bool
	// marker waits for the marker of the last batch. It is nil once the marker has been seen.
	marker *marker

	// began is the start of the takeover in progress.
	began time.Time
	// tail is what the takeover in progress has found.
	tail store.Recovered
}

// work makes a step of the takeover, or sends a batch once the takeover is finished.
func (f *fenced) work(ctx context.Context) (again bool, err error) {
	if f.caughtUp {
		return f.sendBatch(ctx)
	}
	return true, f.takeover(ctx)
}

// failed drops the session, the producer and the marker, all of which may be in doubt.
func (f *fenced) failed() {
	f.session.Close() // First, so that the next owner need not wait.
	if f.marker != nil {
		f.marker.stop()
	}
	if f.producer != nil {
		f.producer.Close()
	}
	f.session, f.producer, f.caughtUp, f.marker = nil, nil, false, nil
}

// mustKeep implements delivery. Any other owner can take over.
func (f *fenced) mustKeep() bool { return false }

// takeover makes one step of a takeover, under the partition's lock. The first step fences the
// former owner. If power fails
//
//	before the fence:  nothing has happened;
//	after the fence:   the former owner cannot publish any more, and has to take over again;
//	before a commit:   the next owner makes the step again;
//	after a commit:    the table has the log up to next_offset; the next step goes on from there.
func (f *fenced) takeover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recovery.Timeout)
	defer cancel()
	claim, err := f.session.Claim(ctx, 0)
	if err != nil {
		return err
	}
	defer claim.Rollback()
	f.at(TakeoverClaimed)
	if err := f.checkMaySend(claim.Partition); err != nil {
		return err
	}

	if f.producer == nil {
		err = f.fence(ctx, claim)
	} else {
		err = f.checkUnchanged(claim.Partition)
	}
	if err != nil {
		return err
	}

	log, reason, err := recovery.JudgeStable(ctx, f.sender.Log, f.producer, claim, claim.Partition)
	f.reportOpenTransaction(log, err)
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
	f.at(TakeoverMarked)
	if err := claim.Commit(ctx); err != nil {
		return err
	}
	f.at(TakeoverCommitted)
	f.known = claim.Partition
	f.tail.Marked += step.Marked
	f.tail.Restored += step.Restored
	if f.known.NextOffset == log.End {
		f.finishTakeover()
	}
	return nil
}

// reportOpenTransaction reports the open transactions that keep a takeover from knowing the log.
func (f *fenced) reportOpenTransaction(log kafka.Range, err error) {
	f.sender.Metrics.undecided(f.partition, log.End-log.StableEnd)
	if errors.Is(err, recovery.ErrOpenTransaction) {
		f.sender.Logger.Warn("open transaction in log", "partition", f.partition, "stable_end", log.StableEnd, "end",
			log.End, "error", err)
	}
}

// fence creates the only producer that may publish, and then increments the generation. The order
// matters. The update after InitProducerID proves that the row is still locked, so that its
// contents are still true, and that an open transaction is older than the fence.
//
// Otherwise a zombie could fence its successor with an old next_offset, and abort transactions that
// the successor has already put on record. test/model finds this.
func (f *fenced) fence(ctx context.Context, claim *store.Claim) (err error) {
	f.began, f.tail = time.Now(), store.Recovered{}
	if err := claim.Confirm(ctx); err != nil {
		// The sender of an isolated primary must not fence that of the new primary.
		return err
	}
	if f.producer, err = f.sender.Fencer.Fence(ctx, f.partition, claim.Partition.TransactionalID); err != nil {
		return err
	}
	f.at(TakeoverFenced)
	if err := claim.CountTakeover(ctx); err != nil {
		return err
	}
	return f.checkPartitions(ctx, claim)
}

// checkPartitions refuses a database that was restored to a copy from before the topic grew.
// Payments in the partitions that it does not know would be taken, and sent, again.
func (f *fenced) checkPartitions(ctx context.Context, claim *store.Claim) error {
	topic := claim.Partition.Topic
	known, err := claim.Partitions(ctx)
	if err != nil {
		return err
	}
	n := int32(len(known))
	unknown, found, all, err := f.sender.Log.FirstNonEmpty(ctx, topic, n)
	if err != nil {
		return err
	}
	if found {
		return fmt.Errorf("partition %d of topic %s holds records, and the database knows only %d partitions, "+
			"as if an earlier copy had been restored: "+
			"run `paylatch partitions grow %d` before payments are taken", unknown, topic, len(known), all)
	}
	return nil
}

// checkUnchanged returns an error if the partition had another owner since this owner's last
// commit.
func (f *fenced) checkUnchanged(p store.Partition) error {
	if p.Generation != f.known.Generation || p.NextOffset != f.known.NextOffset {
		return fmt.Errorf("partition %d had another owner: generation %d and next offset %d, left at %d and %d",
			p.Number, p.Generation, p.NextOffset, f.known.Generation, f.known.NextOffset)
	}
	return nil
}

// tailStep returns how many offsets a step of a takeover reads.
func (s *Sender) tailStep() int64 {
	if s.TailStep > 0 {
		return int64(s.TailStep)
	}
	return recovery.StepDefault
}

// recover brings the payments of a step of the log, from next_offset up to the offset end, into the
// table. The reason says what in the step contradicts the table; it is empty if nothing does.
func (f *fenced) recover(ctx context.Context, claim *store.Claim, end int64) (step store.Recovered, reason string,
	err error,
) {
	tail, err := recovery.ReadTail(ctx, f.sender.Log, claim.Partition,
		min(end, claim.Partition.NextOffset+f.sender.tailStep()))
	switch {
	case err != nil:
		return step, "", err
	case tail.Unexpected > 0:
		return step, tail.Examples[0], nil
	}
	f.at(TakeoverRead)
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

// finishTakeover ends a takeover.
func (f *fenced) finishTakeover() {
	f.caughtUp = true
	f.sender.Metrics.tookOver(time.Since(f.began), f.tail)
	f.sender.Logger.Info("partition acquired", "partition", f.partition, "generation", f.known.Generation,
		"next_offset", f.known.NextOffset,
		"found", f.tail.Marked, "restored", f.tail.Restored, "took", time.Since(f.began))
	f.at(TakeoverDone)
}

// sendBatch sends the next batch of the partition's payments, in order. again reports that there
// may be more. If power fails
//
//	before produce:  nothing has happened; a lost marker of the last batch is written by the
//	                 next takeover;
//	before commit:   the transaction is open: the next takeover aborts it, rows are `created`;
//	during commit:   the log decides, and the next takeover reads it;
//	after commit:    the records are in the log, and the next takeover marks their rows;
//	after the mark's commit:
//	                 the batch is in the log once, and marked where it is.
func (f *fenced) sendBatch(ctx context.Context) (again bool, err error) {
	unsent, err := f.mayHaveUnsent(ctx)
	if err != nil {
		return false, err
	}
	if !unsent {
		if err := f.awaitMarker(ctx); err != nil {
			// Before it waits: what it has sent must be visible.
			return false, err
		}
		return false, f.endCheck.poll(f.sender, f.known)
	}

	claim, err := f.claim(ctx)
	if err != nil {
		return false, err
	}
	defer claim.Rollback()
	if err := f.checkUnchanged(claim.Partition); err != nil {
		return false, err
	}
	if len(claim.Payments) == 0 {
		return true, nil
	}
	events, err := f.encode(claim.Payments)
	if err != nil {
		return false, err
	}
	f.at(BatchSelected)

	err = f.publish(ctx, claim, events)
	if refused, ok := errors.AsType[*kafka.RefusedError](err); ok {
		return false, f.halt(ctx, claim, refused.Error())
	}
	if err != nil {
		return false, err
	}
	f.at(BatchCommitted)

	ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
	defer cancel()
	// The transaction's marker takes one offset.
	after := f.known.NextOffset + int64(len(events)) + 1
	if err := claim.MarkSent(ctx, f.known.NextOffset, len(events), after); err != nil {
		return false, err
	}
	f.at(BatchMarked)
	if err := claim.Commit(ctx); err != nil {
		return false, err
	}
	f.at(BatchRecorded)
	f.known.NextOffset = after
	f.marker = watchMarker(f.producer, after)
	f.sent(claim.Payments[:len(events)])
	return true, nil
}

// publish produces the events and commits them, in one Kafka transaction, once the marker of the
// last one is in the log. Its bound is below the transaction's timeout.
func (f *fenced) publish(ctx context.Context, claim *store.Claim, events []kafka.Event) error {
	ctx, cancel := context.WithTimeout(ctx, store.PublishTimeout)
	defer cancel()
	began := time.Now()
	err := f.awaitMarker(ctx)
	if err == nil {
		// Payments that only an isolated primary has must not be emitted before those of the new
		// one.
		err = claim.Confirm(ctx)
	}
	if err == nil {
		err = f.producer.Produce(ctx, f.known.NextOffset, events)
	}
	if err == nil {
		f.at(BatchProduced)
		err = f.producer.Commit(ctx)
	}
	f.sender.Metrics.published(time.Since(began), len(events), err)
	return err
}

// awaitMarker waits for the marker of the last batch, once. It returns the error of the wait, or
// that of ctx.
func (f *fenced) awaitMarker(ctx context.Context) error {
	if f.marker == nil {
		return nil
	}
	select {
	case <-f.marker.done:
		err := f.marker.err
		f.marker.stop()
		f.marker = nil // Also after an error, after which failed drops the rest.
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// marker waits for a transaction's marker while the next batch is claimed. The claim need not wait
// for it, and after it the marker is probably there.
type marker struct {
	done chan struct{}
	// err is the result, once done is closed.
	err    error
	cancel context.CancelFunc
}

// watchMarker starts to wait for the marker of the transaction that ends at the offset next.
func watchMarker(p Producer, next int64) *marker {
	ctx, cancel := context.WithCancel(context.Background()) // AwaitStable has a bound of its own.
	m := &marker{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(m.done)
		m.err = p.AwaitStable(ctx, next)
	}()
	return m
}

// stop ends the wait, and returns when it no longer uses the producer.
func (m *marker) stop() {
	m.cancel()
	<-m.done
}
