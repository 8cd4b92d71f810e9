// Package recovery compares the log of a partition with what the database has on record of it. The
// sender uses it when it takes a partition over, the operators' commands before they change one.
package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sleep"
	"github.com/paylatch/paylatch/internal/store"
)

// Log reads the topic.
type Log interface {
	Range(ctx context.Context, topic string, partition int32) (kafka.Range, error)
	Read(ctx context.Context, topic string, partition int32, from, to int64, each func(kafka.Record) error) error
}

// Ender ends a transaction that an earlier producer of the partition has left open.
type Ender interface {
	EndHanging(ctx context.Context, commit bool) error
}

// Confirmer is the claim that holds the partition's row lock. Confirm returns nil if the lock was
// in force at some moment after the call: on a primary that a failover has left behind it is not.
type Confirmer interface {
	Confirm(ctx context.Context) error
}

// ShrunkAfter is how long an end of the log below our next offset must last to be believed: a
// leader that has just been elected may not know its high watermark yet (KIP-207).
const ShrunkAfter = 5 * time.Second

// Timeout bounds a recovery, which reads the ends of the log, twice if the log seems to have
// shrunk. It stays below the idle-in-transaction time-out of the session.
const Timeout = ShrunkAfter + 8*time.Second

var (
	// ErrOpenTransaction means that the whole log cannot be known yet.
	ErrOpenTransaction = errors.New("a transaction is open")
	// ErrTransactionEnded means that EndHanging has ended a transaction. The next attempt finds it
	// decided.
	ErrTransactionEnded = errors.New("the broker had lost its marker, which is written again")
)

// Judge compares the log with what the database has on record. The reason says why both cannot be
// true; it is empty if they agree.
func Judge(ctx context.Context, log Log, p store.Partition) (r kafka.Range, reason string, err error) {
	r, err = log.Range(ctx, p.Topic, p.Number)
	if err != nil {
		return r, "", err
	}
	if r.TopicID == p.TopicID && r.Start <= p.NextOffset && Contradiction(p, r) != "" { // Read twice: see ShrunkAfter.
		_ = sleep.For(ctx, ShrunkAfter) // The next request fails if ctx has ended.
		r, err = log.Range(ctx, p.Topic, p.Number)
		if err != nil {
			return r, "", err
		}
	}
	return r, Contradiction(p, r), nil
}

// Contradiction returns what about the log cannot be true if it holds all that the database has
// marked; empty if nothing.
func Contradiction(p store.Partition, log kafka.Range) string {
	switch {
	case log.TopicID != p.TopicID:
		return fmt.Sprintf("topic %s is another one than the payments went to: its id is %s, was %s",
			p.Topic, log.TopicID, p.TopicID)
	case log.Start > p.NextOffset:
		return fmt.Sprintf("the log begins at offset %d, after the next offset %d: "+
			"records were deleted that were never compared",
			log.Start, p.NextOffset)
	case LacksMarker(p, log):
		return ""
	case log.End < p.NextOffset:
		return fmt.Sprintf("the log ends at offset %d, before the next offset %d: acknowledged records are lost",
			log.End, p.NextOffset)
	case p.Delivery == store.DeliveryFenced && log.StableEnd < p.NextOffset:
		return fmt.Sprintf("a transaction is open from offset %d on, before the next offset %d, and the log ends "+
			"at %d: a batch that is marked sent may not be committed", log.StableEnd, p.NextOffset, log.End)
	}
	return ""
}

// LacksMarker reports whether the marker of the last batch is all that the log lacks of what the
// table has on record: the broker has lost it.
func LacksMarker(p store.Partition, log kafka.Range) bool {
	return p.Delivery == store.DeliveryFenced && log.StableEnd < log.End && log.End == p.NextOffset-1
}

// JudgeStable is like Judge, and also requires that no transaction is open in the log. The caller
// must have fenced the former producer, with ender; ender is nil in locked delivery, where there
// was none. It returns ErrOpenTransaction while a transaction is open. One of the partition's own
// is ended, and the error is ErrTransactionEnded as well: try again.
func JudgeStable(
	ctx context.Context, log Log, ender Ender, lock Confirmer, p store.Partition,
) (r kafka.Range, reason string, err error) {
	r, reason, err = Judge(ctx, log, p)
	if err != nil || reason != "" || r.StableEnd == r.End {
		return r, reason, err
	}
	return r, "", EndHanging(ctx, ender, lock, p, r)
}

// EndHanging returns an error that describes the open transaction, and ends it if it is the
// partition's own. Such a transaction has lost its marker, since the fence leaves nothing under
// way:
//
//   - If it begins before next_offset, the table has it on record: it was committed, and is
//     committed again.
//   - Otherwise its payments are `created` and no consumer has seen its records. It is aborted.
//
// The partition must have been seen to be locked after the fence, which lock confirms.
func EndHanging(ctx context.Context, ender Ender, lock Confirmer, p store.Partition, r kafka.Range) error {
	if ender == nil {
		return fmt.Errorf("partition %d: %w: stable end %d, end %d", p.Number, ErrOpenTransaction, r.StableEnd, r.End)
	}
	if err := lock.Confirm(ctx); err != nil {
		return err
	}
	commit := r.StableEnd < p.NextOffset
	if err := ender.EndHanging(ctx, commit); err != nil {
		return fmt.Errorf("partition %d: %w: stable end %d, end %d: %w",
			p.Number, ErrOpenTransaction, r.StableEnd, r.End, err)
	}
	return fmt.Errorf("partition %d: %w: stable end %d, end %d: %w (committed: %t)",
		p.Number, ErrOpenTransaction, r.StableEnd, r.End, ErrTransactionEnded, commit)
}
