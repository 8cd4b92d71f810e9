package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// shrunkAfter is how long an end of the log below our next offset must last to be believed: a leader that has just taken over may not know its
// high watermark yet (KIP-207).
const shrunkAfter = 5 * time.Second

// judge compares what the log is with what the database says of it; a reason is why they cannot both be true.
func judge(ctx context.Context, log Log, p store.Partition) (r kafka.Range, reason string, err error) {
	if r, err = log.Range(ctx, p.Topic, p.Number); err != nil {
		return r, "", err
	}
	if r.TopicID == p.TopicID && r.Start <= p.NextOffset && contradiction(p, r) != "" { // Looked at twice: see shrunkAfter.
		pause(ctx, shrunkAfter)
		if r, err = log.Range(ctx, p.Topic, p.Number); err != nil {
			return r, "", err
		}
	}
	return r, contradiction(p, r), nil
}

// contradiction says what about the log cannot be if all that the database has marked is in it; empty when nothing.
func contradiction(p store.Partition, log kafka.Range) string {
	switch {
	case log.TopicID != p.TopicID:
		return fmt.Sprintf("topic %s is another one than the payments went to: its id is %s, was %s", p.Topic, log.TopicID, p.TopicID)
	case log.Start > p.NextOffset:
		return fmt.Sprintf("the log begins at offset %d, after the next offset %d: records were deleted that were never judged", log.Start, p.NextOffset)
	case lacksMarker(p, log):
		return ""
	case log.End < p.NextOffset:
		return fmt.Sprintf("the log ends at offset %d, before the next offset %d: acknowledged records are lost", log.End, p.NextOffset)
	case p.Delivery == store.Fenced && log.StableEnd < p.NextOffset:
		return fmt.Sprintf("the log is undecided from offset %d on, before the next offset %d, and ends at %d: a batch that is marked sent may not be committed", log.StableEnd, p.NextOffset, log.End)
	}
	return ""
}

// lacksMarker tells whether the marker of the last batch is all that the log lacks of what the table has on record: the broker has lost it.
func lacksMarker(p store.Partition, log kafka.Range) bool {
	return p.Delivery == store.Fenced && log.StableEnd < log.End && log.End == p.NextOffset-1
}

// errUndecided says that nobody can know the whole log yet.
var errUndecided = errors.New("a transaction is open")

// judgeAll is judge for whoever must know all of the log, and has fenced the partition's former producer, by the given one (nil in locked delivery: there was none). As long as a transaction is open
// it is an error; one of the partition's own is ended, and whoever asked begins anew.
func judgeAll(ctx context.Context, log Log, producer Producer, lock confirmer, p store.Partition) (r kafka.Range, reason string, err error) {
	r, reason, err = judge(ctx, log, p)
	if err != nil || reason != "" || r.StableEnd == r.End {
		return r, reason, err
	}
	return r, "", endHanging(ctx, producer, lock, p, r)
}

// confirmer is the claim that holds the partition's row lock. Confirm returns nil if the lock was in
// force at some moment after the call: on a primary that a failover has left behind it is not.
type confirmer interface {
	Confirm(ctx context.Context) error
}

// endHanging says what is open in the log, and ends it if it is the partition's own: its marker was lost, since the fence leaves nothing under way. If it begins before next_offset the table has it on
// record: it was committed, and is committed again. Otherwise its payments are `created`, nobody has seen its records, and it is aborted.
//
// The partition must have been seen to be locked after the fence: see fenced.fence.
func endHanging(ctx context.Context, producer Producer, lock confirmer, p store.Partition, r kafka.Range) error {
	if producer == nil {
		return fmt.Errorf("partition %d: %w: stable end %d, end %d", p.Number, errUndecided, r.StableEnd, r.End)
	}
	if err := lock.Confirm(ctx); err != nil {
		return err
	}
	commit := r.StableEnd < p.NextOffset
	if err := producer.EndHanging(ctx, commit); err != nil {
		return fmt.Errorf("partition %d: %w: stable end %d, end %d: %w", p.Number, errUndecided, r.StableEnd, r.End, err)
	}
	return fmt.Errorf("partition %d: %w: stable end %d, end %d: %w (committed: %t)", p.Number, errUndecided, r.StableEnd, r.End, errEnded, commit)
}

// errEnded says that endHanging has ended a transaction; the next attempt finds it decided.
var errEnded = errors.New("the broker had lost its marker, which is written again")

const (
	// tailStepDefault is how many offsets of the log's tail are brought into the table at once.
	tailStepDefault = 10_000
	// A step ends early at so many bytes, which are all in memory, or after so long: it has to be recorded within the take-over's time.
	tailStepBytesMax = 16 << 20
	tailStepTimeMax  = 3 * time.Second
)

func (s *Sender) tailStep() int64 {
	if s.TailStep > 0 {
		return int64(s.TailStep)
	}
	return tailStepDefault
}

// tail is a step of a partition's log, from its next_offset up to the offset to.
type tail struct {
	found     []payment.Payment
	to        int64
	bytes     int
	strangers int      // Records that are no events of ours,
	examples  []string // and a sentence each for the first of them.
}

// examplesMax bounds the sentences; one is enough to halt.
const examplesMax = 3

// errStepFull ends a step early.
var errStepFull = errors.New("enough for a step")

// readTail reads the payments in the log from a partition's next_offset up to the offset to, or less far, as a read_committed consumer does.
func readTail(ctx context.Context, log Log, p store.Partition, to int64) (tail, error) {
	t, began := tail{to: to}, time.Now()
	err := log.Read(ctx, p.Topic, p.Number, p.NextOffset, to, func(r kafka.Record) error {
		if t.bytes > 0 && (t.bytes+len(r.Value) > tailStepBytesMax || time.Since(began) > tailStepTimeMax) {
			t.to = r.Offset
			return errStepFull
		}
		t.bytes += len(r.Value)
		one, err := kafka.Decode(r.Event)
		if err != nil {
			if t.strangers++; t.strangers <= examplesMax {
				t.examples = append(t.examples, fmt.Sprintf("the record at offset %d is a stranger: %v", r.Offset, err))
			}
			return nil
		}
		one.Partition, one.Sent = p.Number, &payment.Emission{At: r.At, Topic: p.Topic, Offset: r.Offset}
		t.found = append(t.found, one)
		return nil
	})
	if errors.Is(err, errStepFull) {
		err = nil
	}
	return t, err
}
