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
	*Config
	partition int32
	// producer is nil until the fence of a takeover.
	producer Producer
	// marker waits for the marker of the last batch. It is nil once the marker has been seen.
	marker *marker

	// began is the start of the takeover in progress.
	began time.Time
	// tail is what the takeover in progress has found.
	tail store.Recovered
}

// keepsSession implements delivery. All that belongs to a session may be in doubt after an error.
func (f *fenced) keepsSession() bool { return false }

// mustKeep implements delivery. Any other owner can take over.
func (f *fenced) mustKeep() bool { return false }

// reset drops the marker and the producer.
func (f *fenced) reset() {
	if f.marker != nil {
		f.marker.stop()
	}
	if f.producer != nil {
		f.producer.Close()
	}
	f.producer, f.marker = nil, nil
}

// at calls Config.At.
func (f *fenced) at(p Point) { f.Config.at(f.partition, p) }

// recover makes one step of a takeover. The first step fences the former owner. If power fails
//
//	before the fence:  nothing has happened;
//	after the fence:   the former owner cannot publish any more, and has to take over again;
//	before a commit:   the next owner makes the step again;
//	after a commit:    the table has the log up to next_offset; the next step goes on from there.
func (f *fenced) recover(ctx context.Context, claim *store.Claim, known store.Partition) (done bool, err error) {
	f.at(TakeoverClaimed)
	if f.producer == nil {
		err = f.fence(ctx, claim)
	} else {
		err = checkUnchanged(claim.Partition, known)
	}
	if err != nil {
		return false, err
	}

	log, reason, err := recovery.JudgeStable(ctx, f.Log, f.producer, claim, claim.Partition)
	f.reportOpenTransaction(log, err)
	if err != nil {
		return false, err
	}
	if reason != "" {
		return false, &haltError{reason}
	}

	step, err := f.readStep(ctx, claim, log.End)
	if err != nil {
		return false, err
	}
	f.at(TakeoverMarked)
	if err := claim.Commit(ctx); err != nil {
		return false, err
	}
	f.at(TakeoverCommitted)
	f.tail.Marked += step.Marked
	f.tail.Restored += step.Restored
	done = claim.Partition.NextOffset == log.End
	if done {
		f.finishTakeover(claim.Partition)
	}
	return done, nil
}

// reportOpenTransaction reports the open transactions that keep a takeover from knowing the log.
func (f *fenced) reportOpenTransaction(log kafka.Range, err error) {
	f.Metrics.undecided(f.partition, log.End-log.StableEnd)
	if errors.Is(err, recovery.ErrOpenTransaction) {
		f.Logger.Warn("open transaction in log", "partition", f.partition, "stable_end", log.StableEnd, "end",
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
	f.producer, err = f.Fencer.Fence(ctx, f.partition, claim.Partition.TransactionalID)
	if err != nil {
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
	unknown, found, all, err := f.Log.FirstNonEmpty(ctx, topic, n)
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
// commit, which left the row known.
func checkUnchanged(p, known store.Partition) error {
	if p.Generation != known.Generation || p.NextOffset != known.NextOffset {
		return fmt.Errorf("partition %d had another owner: generation %d and next offset %d, left at %d and %d",
			p.Number, p.Generation, p.NextOffset, known.Generation, known.NextOffset)
	}
	return nil
}

// tailStep returns how many offsets a step of a takeover reads.
func (c *Config) tailStep() int64 {
	if c.TailStep > 0 {
		return int64(c.TailStep)
	}
	return recovery.StepDefault
}

// readStep brings the payments of a step of the log, from next_offset up to the offset end, into
// the table. It returns a *haltError if the step contradicts the table.
func (f *fenced) readStep(ctx context.Context, claim *store.Claim, end int64) (step store.Recovered, err error) {
	tail, err := recovery.ReadTail(ctx, f.Log, claim.Partition, min(end, claim.Partition.NextOffset+f.tailStep()))
	switch {
	case err != nil:
		return step, err
	case tail.Unexpected > 0:
		return step, &haltError{tail.Examples[0]}
	}
	f.at(TakeoverRead)
	step, err = claim.Recover(ctx, tail.Found, tail.To, false)
	switch {
	case err != nil:
		return step, err
	case len(step.UnexpectedReasons) > 0:
		return step, &haltError{step.UnexpectedReasons[0]}
	case step.Repeated > 0:
		return step, &haltError{fmt.Sprintf("%d records of the log below offset %d repeat payments", step.Repeated,
			tail.To)}
	}
	return step, nil
}

// finishTakeover reports the end of a takeover that left the row p.
func (f *fenced) finishTakeover(p store.Partition) {
	took := time.Since(f.began)
	f.Metrics.tookOver(took, f.tail)
	f.Logger.Info("partition acquired", "partition", f.partition, "generation", p.Generation,
		"next_offset", p.NextOffset, "found", f.tail.Marked, "restored", f.tail.Restored, "took", took)
	f.at(TakeoverDone)
}

// publish sends a batch in one Kafka transaction. If power fails
//
//	before produce:  nothing has happened; a lost marker of the last batch is written by the
//	                 next takeover;
//	before commit:   the transaction is open: the next takeover aborts it, rows are `created`;
//	during commit:   the log decides, and the next takeover reads it;
//	after commit:    the records are in the log, and the next takeover marks their rows.
func (f *fenced) publish(ctx context.Context, claim *store.Claim, known store.Partition) (batch, error) {
	if err := checkUnchanged(claim.Partition, known); err != nil {
		return batch{}, err
	}
	events, err := f.encode(claim.Payments)
	if err != nil {
		return batch{}, err
	}
	f.at(BatchSelected)
	if err := f.commit(ctx, claim, known.NextOffset, events); err != nil {
		return batch{}, err
	}
	f.at(BatchCommitted)
	// The transaction's marker takes one offset.
	return batch{count: len(events), base: known.NextOffset, next: known.NextOffset + int64(len(events)) + 1}, nil
}

// commit produces the events at the offset next and commits them, once the marker of the last batch
// is in the log. Its bound is below the transaction's timeout.
func (f *fenced) commit(ctx context.Context, claim *store.Claim, next int64, events []kafka.Event) error {
	ctx, cancel := context.WithTimeout(ctx, store.PublishTimeout)
	defer cancel()
	began := time.Now()
	err := f.settle(ctx)
	if err == nil {
		// Payments that only an isolated primary has must not be emitted before those of the new
		// one.
		err = claim.Confirm(ctx)
	}
	if err == nil {
		err = f.producer.Produce(ctx, next, events)
	}
	if err == nil {
		f.at(BatchProduced)
		err = f.producer.Commit(ctx)
	}
	f.Metrics.published(time.Since(began), len(events), err)
	return err
}

// recorded starts to wait for the batch's marker.
func (f *fenced) recorded(sent batch) { f.marker = watchMarker(f.producer, sent.next) }

// settle waits for the marker of the last batch, once. It returns the error of the wait, or that of
// ctx.
func (f *fenced) settle(ctx context.Context) error {
	if f.marker == nil {
		return nil
	}
	select {
	case <-f.marker.done:
		err := f.marker.err
		f.marker.stop()
		f.marker = nil // Also after an error, after which reset drops the rest.
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
