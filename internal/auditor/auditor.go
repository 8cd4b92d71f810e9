// Package auditor compares the topic with the database. Each payment that is marked sent must be in
// the topic exactly once, with the content of its row, and nothing else may be there.
//
// The result is right while the system runs. An audit takes one snapshot of the table and then
// reads the ends of the log: all that is marked sent in the snapshot must be below these ends
// (ends.go). A payment that is sent after the snapshot is in flight, and is not judged.
//
// An audit reads as a read_committed consumer does. It needs constant memory: it merges the rows
// and the records, both in order of partition and offset (merge.go). It counts and reports what it
// cannot judge.
package auditor

import (
	"context"
	"errors"
	"fmt"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// Log is the topic. kafka.Cluster implements it.
type Log interface {
	Ranges(ctx context.Context, topic string) ([]kafka.Range, error)
	Read(ctx context.Context, topic string, partition int32, from, to int64, each func(kafka.Record) error) error
}

// Report is the result of an audit. Duplicates, Missing, Unexpected and Differing are faults and
// must be 0.
type Report struct {
	Topic string `json:"topic"`
	// Payments counts the rows of the table.
	Payments int64 `json:"payments"`
	// Records counts the committed records of the topic.
	Records int64 `json:"records"`
	// Duplicates counts the records of a payment after its first.
	Duplicates int64 `json:"duplicates"`
	// Missing counts the payments that are marked sent and have no record at the offset of the
	// mark.
	Missing int64 `json:"missing"`
	// Unexpected counts the records of no payment in the table.
	Unexpected int64 `json:"unexpected"`
	// Differing counts the payments whose record, at the offset of the mark, says something else
	// than their row. One of the two was changed.
	Differing int64 `json:"differing"`
	// Hidden counts the payments that are marked sent at an offset that consumers cannot read
	// yet, because a transaction is open.
	Hidden int64 `json:"hidden"`
	// Unsent counts the payments that are still to be sent.
	Unsent int64 `json:"unsent"`

	NotJudged NotJudged `json:"not_judged"`
	Examples  Examples  `json:"examples"`
}

// NotJudged counts what an audit cannot judge.
type NotJudged struct {
	// DeletedRecords counts the payments whose records were deleted by retention: their offsets are
	// below the start of the log.
	DeletedRecords int64 `json:"deleted_records"`
	// InFlight counts the records of payments that are not marked sent in the snapshot.
	InFlight int64 `json:"in_flight"`
}

// Examples lists the first payments of each kind, at most examplesMax.
type Examples struct {
	// Differing has the id, and the members that differ.
	Differing  []string `json:"differing,omitempty"`
	Duplicates []string `json:"duplicates,omitempty"`
	Missing    []string `json:"missing,omitempty"`
	Unexpected []string `json:"unexpected,omitempty"`
	Hidden     []string `json:"hidden,omitempty"`
}

// OK reports whether every payment that is marked sent is in the topic once, as consumers see it
// and as its row says, and nothing else is.
func (r Report) OK() bool { return !r.Contradicts() && r.Hidden == 0 }

// Contradicts reports whether the topic and the database cannot both be right.
func (r Report) Contradicts() bool {
	return r.Duplicates > 0 || r.Missing > 0 || r.Unexpected > 0 || r.Differing > 0
}

// ErrOtherTopic is returned if the topic is not the one that the payments were sent to. An audit
// cannot judge anything then.
var ErrOtherTopic = errors.New("the topic is another one than the payments were sent to")

// Audit compares the topic with the snapshot of the table that it takes. It returns
// store.ErrNoTopic before setup, ErrOtherTopic, and the errors of the store and of Kafka. It may
// run next to any other work.
func Audit(ctx context.Context, s *store.Store, log Log) (Report, error) {
	return run(ctx, storeTable{s}, log)
}

func run(ctx context.Context, t table, log Log) (Report, error) {
	first, err := t.snapshot(ctx)
	if err != nil {
		return Report{}, err
	}
	defer first.Close()
	partitions, err := first.Partitions(ctx)
	if err != nil {
		return Report{}, err
	}
	if len(partitions) == 0 {
		return Report{}, store.ErrNoTopic
	}
	a := newAudit(t, first, log, partitions)
	defer a.close()
	if err := a.partitionsToEnd(ctx); err != nil {
		return Report{}, err
	}
	return a.report, nil
}

// partitionsToEnd reads the ends of the log and judges each partition up to its end. It includes
// partitions of the topic that the table does not know, as after a restore: their records are
// unexpected.
func (a *audit) partitionsToEnd(ctx context.Context) error {
	ends, err := a.ends(ctx)
	if err != nil {
		return err
	}
	for number, end := range ends {
		if err := a.partition(ctx, int32(number), end); err != nil {
			return fmt.Errorf("partition %d of %s: %w", number, a.report.Topic, err)
		}
	}
	return nil
}
