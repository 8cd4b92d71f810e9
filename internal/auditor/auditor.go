// Package auditor holds the topic against the database: is each payment that is marked sent in the topic exactly once, and nothing else?
//
// It is right on a live system: it fixes the end of the log first and takes one snapshot of the table after that, so that a payment marked while it
// reads is not missed, and one published while it reads is not judged. It reads as a read_committed consumer does, to the end, in constant memory, by
// merging two streams in order of partition and offset. What it cannot judge it counts and says.
package auditor

import (
	"context"
	"errors"
	"fmt"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// lookUpMax is how many records without a row at their offset are looked up at once.
	lookUpMax = 10_000
	// inFlightMax bounds the records that are published and not yet marked; senders have a batch each in hand, so more is no live system.
	inFlightMax = 1_000_000
	// examplesMax is how many payments of each kind of finding are named.
	examplesMax = 10
)

// Report is what was found. Duplicates, missing and strangers must be 0.
type Report struct {
	Topic      string `json:"topic"`
	Payments   int64  `json:"payments"`   // In the table.
	Records    int64  `json:"records"`    // In the topic, committed.
	Duplicates int64  `json:"duplicates"` // Records of a payment beyond its first.
	Missing    int64  `json:"missing"`    // Marked sent, not in the topic where the mark says.
	Strangers  int64  `json:"strangers"`  // Records that are of no payment in the table.
	Unsent     int64  `json:"unsent"`     // Payments still to be sent.

	NotJudged NotJudged `json:"not_judged"`
	Examples  Examples  `json:"examples"`
}

// NotJudged counts what this run could not judge.
type NotJudged struct {
	DeletedRecords int64 `json:"deleted_records"` // Payments whose records are below the log's start: retention has taken them.
	SentMeanwhile  int64 `json:"sent_meanwhile"`  // Payments marked at or after the end that was fixed before the snapshot.
	InFlight       int64 `json:"in_flight"`       // Records of payments that were not yet marked in the snapshot.
}

// Examples names some of what was found.
type Examples struct {
	Duplicates []string `json:"duplicates,omitempty"`
	Missing    []string `json:"missing,omitempty"`
	Strangers  []string `json:"strangers,omitempty"`
}

// OK tells whether nothing was found that may not be.
func (r Report) OK() bool { return r.Duplicates == 0 && r.Missing == 0 && r.Strangers == 0 }

// ErrOtherTopic says that the topic is not the one that the database's payments went to, so that nothing can be judged.
var ErrOtherTopic = errors.New("the topic is another one than the payments went to")

// Audit judges all that is sent.
func Audit(ctx context.Context, s *store.Store, cluster *kafka.Cluster) (Report, error) {
	partitions, err := s.Partitions(ctx)
	if err != nil {
		return Report{}, err
	}
	if len(partitions) == 0 {
		return Report{}, store.ErrNoTopic
	}
	topic := partitions[0].Topic
	ranges, err := cluster.Ranges(ctx, topic) // Before the snapshot: see the package.
	if err != nil {
		return Report{}, err
	}
	snapshot, err := s.Snapshot(ctx)
	if err != nil {
		return Report{}, err
	}
	defer snapshot.Close()
	a := &audit{snapshot: snapshot, cluster: cluster, inFlight: map[payment.ID]struct{}{}}
	a.report.Topic = topic
	if a.report.Payments, a.report.Unsent, err = snapshot.Counts(ctx); err != nil {
		return Report{}, err
	}
	for _, p := range partitions {
		if int(p.Number) >= len(ranges) || ranges[p.Number].TopicID != p.TopicID {
			return Report{}, fmt.Errorf("partition %d of %s: %w", p.Number, topic, ErrOtherTopic)
		}
		if err := a.partition(ctx, p.Number, ranges[p.Number]); err != nil {
			return Report{}, err
		}
	}
	return a.report, nil
}

// audit is one run.
type audit struct {
	snapshot *store.Snapshot
	cluster  *kafka.Cluster
	report   Report
	pending  []payment.ID            // Of records without a row at their offset, not yet looked up.
	inFlight map[payment.ID]struct{} // Published and not marked in the snapshot: a second record of one is a duplicate.
}

// partition merges one partition's log with the rows that say they are in it.
func (a *audit) partition(ctx context.Context, number int32, log kafka.Range) error {
	rows, err := a.snapshot.Sent(ctx, number)
	if err != nil {
		return err
	}
	defer rows.Close()
	m := merge{audit: a, rows: rows, log: log}
	if err := m.next(); err != nil {
		return err
	}
	err = a.cluster.Read(ctx, a.report.Topic, number, log.Start, log.StableEnd, func(r kafka.Record) error {
		a.report.Records++
		if err := m.upTo(r.Offset); err != nil {
			return err
		}
		return m.record(ctx, r)
	})
	if err != nil {
		return err
	}
	if err := m.rest(); err != nil {
		return err
	}
	return a.lookUp(ctx)
}

// merge is the place in one partition's two streams.
type merge struct {
	*audit
	rows   *store.SentRows
	log    kafka.Range
	id     payment.ID // The row that is next in order of offset.
	offset int64
	more   bool
}

func (m *merge) next() (err error) {
	m.id, m.offset, m.more, err = m.rows.Next()
	return err
}

// upTo judges the rows below an offset at which the log is now: the log had no record for them.
func (m *merge) upTo(offset int64) error {
	for m.more && m.offset < offset {
		m.absent()
		if err := m.next(); err != nil {
			return err
		}
	}
	return nil
}

// record judges a record: it is a row's that says so, or it is looked up. Several rows may claim one offset; at most one of them is right.
func (m *merge) record(ctx context.Context, r kafka.Record) error {
	id, err := payment.ParseID(string(r.Key))
	known := err == nil
	claimed := false
	for m.more && m.offset == r.Offset {
		if known && m.id == id {
			claimed = true
		} else {
			m.absent()
		}
		if err := m.next(); err != nil {
			return err
		}
	}
	switch {
	case claimed:
		return nil
	case !known:
		m.report.Strangers++
		m.report.Examples.Strangers = example(m.report.Examples.Strangers, fmt.Sprintf("%q", bounded(r.Key)))
		return nil
	}
	m.pending = append(m.pending, id)
	if len(m.pending) == lookUpMax {
		return m.lookUp(ctx)
	}
	return nil
}

// rest judges the rows beyond the last record.
func (m *merge) rest() error {
	for m.more {
		m.absent()
		if err := m.next(); err != nil {
			return err
		}
	}
	return nil
}

// absent judges a row that has no record at its offset.
func (m *merge) absent() {
	switch {
	case m.offset < m.log.Start:
		m.report.NotJudged.DeletedRecords++
	case m.offset >= m.log.StableEnd:
		m.report.NotJudged.SentMeanwhile++
	default:
		m.report.Missing++
		m.report.Examples.Missing = example(m.report.Examples.Missing, m.id.String())
	}
}

// lookUp judges the records that had no row at their offset.
func (a *audit) lookUp(ctx context.Context) error {
	places, err := a.snapshot.Places(ctx, a.pending)
	if err != nil {
		return err
	}
	for _, id := range a.pending {
		place, there := places[id]
		_, before := a.inFlight[id]
		switch {
		case !there:
			a.report.Strangers++
			a.report.Examples.Strangers = example(a.report.Examples.Strangers, id.String())
		case place.Offset >= 0 || before: // Its mark points to another record, or this is not the first.
			a.report.Duplicates++
			a.report.Examples.Duplicates = example(a.report.Examples.Duplicates, id.String())
		case len(a.inFlight) == inFlightMax:
			return fmt.Errorf("more than %d records are of payments that are not marked: is this the right database?", inFlightMax)
		default:
			a.inFlight[id] = struct{}{}
			a.report.NotJudged.InFlight++
		}
	}
	a.pending = a.pending[:0]
	return nil
}

func example(examples []string, id string) []string {
	if len(examples) == examplesMax {
		return examples
	}
	return append(examples, id)
}

func bounded(key []byte) []byte {
	const keyMax = 100
	return key[:min(len(key), keyMax)]
}
