package auditor

import (
	"context"
	"fmt"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// lookUpMax is how many payments are looked up by one statement.
	lookUpMax = 10_000
	// inFlightMax bounds the records in flight, each of which takes 16 bytes of memory. It is more than any sender
	// sends between the snapshot and the ends of the log.
	inFlightMax = 1_000_000
	// examplesMax is how many payments of each kind are named.
	examplesMax = 10
)

// audit is one run.
type audit struct {
	store      *store.Store
	log        Log
	snapshot   *store.Snapshot
	partitions []store.Partition
	report     Report
	// later is a snapshot taken after the ends of the log were read; nil until it is needed.
	later *store.Snapshot
	// pending holds the payments of records that no row claims and that are not looked up yet.
	pending []payment.ID
	// inFlight holds the payments with a record that are not marked sent. A second record of one is a duplicate.
	inFlight map[payment.ID]struct{}
}

func newAudit(s *store.Store, snapshot *store.Snapshot, log Log, partitions []store.Partition) *audit {
	return &audit{
		store: s, snapshot: snapshot, log: log, partitions: partitions, inFlight: map[payment.ID]struct{}{},
		report: Report{Topic: partitions[0].Topic},
	}
}

func (a *audit) close() {
	if a.later != nil {
		a.later.Close()
	}
}

// partition merges one partition's log with the rows that are marked sent in it.
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
	err = a.log.Read(ctx, a.report.Topic, number, log.Start, log.StableEnd, func(r kafka.Record) error {
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

// merge is the position in one partition's two streams.
type merge struct {
	*audit
	rows *store.SentRows
	log  kafka.Range
	// id and offset are the next row's, if there is more.
	id     payment.ID
	offset int64
	more   bool
}

func (m *merge) next() (err error) {
	m.id, m.offset, m.more, err = m.rows.Next()
	return err
}

// upTo judges the rows below the offset of the record that was read: the log has no record for them.
func (m *merge) upTo(offset int64) error {
	for m.more && m.offset < offset {
		m.absent()
		if err := m.next(); err != nil {
			return err
		}
	}
	return nil
}

// record judges a record. It is the one that a row claims, or its payment is looked up. If several rows claim one
// offset, at most one of them is right.
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
		m.found(&m.report.Unexpected, &m.report.Examples.Unexpected, fmt.Sprintf("%q", bounded(r.Key)))
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

// absent judges a row without a record at its offset. The ends of the log were read after the snapshot, so a row at or
// beyond the high watermark has lost its record.
func (m *merge) absent() {
	switch {
	case m.offset < m.log.Start:
		m.report.NotJudged.DeletedRecords++
	case m.log.StableEnd <= m.offset && m.offset < m.log.End:
		m.found(&m.report.Undecided, &m.report.Examples.Undecided, m.id.String())
	default:
		m.found(&m.report.Missing, &m.report.Examples.Missing, m.id.String())
	}
}

// lookUp judges the records that no row claims.
func (a *audit) lookUp(ctx context.Context) error {
	places, err := a.places(ctx)
	if err != nil {
		return err
	}
	for _, id := range a.pending {
		place, there := places[id]
		_, before := a.inFlight[id]
		switch {
		case !there:
			a.found(&a.report.Unexpected, &a.report.Examples.Unexpected, id.String())
		case place.Offset >= 0 || before: // It is marked elsewhere, or this is not its first record.
			a.found(&a.report.Duplicates, &a.report.Examples.Duplicates, id.String())
		case len(a.inFlight) == inFlightMax:
			return fmt.Errorf("more than %d records are of payments that are not marked sent: is this the right database?", inFlightMax)
		default:
			a.inFlight[id] = struct{}{}
			a.report.NotJudged.InFlight++
		}
	}
	a.pending = a.pending[:0]
	return nil
}

// places looks the pending payments up in the snapshot. One that is not there may have been taken and sent before the
// ends of the log were read, so it is looked up once more in a later snapshot. It is in flight then, marked or not.
func (a *audit) places(ctx context.Context) (map[payment.ID]store.Place, error) {
	places, err := a.snapshot.Places(ctx, a.pending)
	if err != nil || len(a.pending) == 0 {
		return nil, err
	}
	var absent []payment.ID
	for _, id := range a.pending {
		if _, there := places[id]; !there {
			absent = append(absent, id)
		}
	}
	if len(absent) == 0 {
		return places, nil
	}
	if a.later == nil {
		if a.later, err = a.store.Snapshot(ctx); err != nil {
			return nil, err
		}
	}
	later, err := a.later.Places(ctx, absent)
	for id, place := range later {
		places[id] = store.Place{Partition: place.Partition, Offset: -1}
	}
	return places, err
}

// found counts a payment, and names it if it is one of the first.
func (a *audit) found(n *int64, examples *[]string, id string) {
	*n++
	if len(*examples) < examplesMax {
		*examples = append(*examples, id)
	}
}

func bounded(key []byte) []byte {
	const keyMax = 100
	return key[:min(len(key), keyMax)]
}
