package auditor

import (
	"context"
	"fmt"
	"math"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// lookUpMax bounds the payments that are looked up by one statement.
	lookUpMax = 10_000
	// inFlightMax bounds the records in flight, which take 16 bytes of memory each. Senders cannot
	// send more between the snapshot and the read of the ends.
	inFlightMax = 1_000_000
	// examplesMax bounds the examples of each kind.
	examplesMax = 10
	// keyBytesMax bounds what an example shows of a key that is no payment id.
	keyBytesMax = 100
)

// audit is one run. It is not safe for concurrent use.
type audit struct {
	table      table
	log        Log
	snapshot   snapshot
	partitions []store.Partition
	report     Report
	// later is a snapshot taken after the ends of the log were read. It is nil until it is needed.
	later snapshot
	// pending holds the payments of records that no row claims and that are not looked up yet.
	pending []payment.ID
	// inFlight holds the payments with a record that are not marked sent. A second record of one is
	// a duplicate.
	inFlight map[payment.ID]struct{}
}

func newAudit(t table, first snapshot, log Log, partitions []store.Partition) *audit {
	return &audit{
		table: t, snapshot: first, log: log, partitions: partitions, inFlight: map[payment.ID]struct{}{},
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
	rows, err := a.snapshot.sent(ctx, a.report.Topic, number)
	if err != nil {
		return err
	}
	defer rows.Close()
	m := merge{audit: a, rows: rows, log: log}
	if err := m.next(ctx); err != nil {
		return err
	}
	err = a.log.Read(ctx, a.report.Topic, number, log.Start, log.StableEnd, func(r kafka.Record) error {
		a.report.Records++
		if err := m.rowsBelow(ctx, r.Offset); err != nil {
			return err
		}
		return m.record(ctx, r)
	})
	if err != nil {
		return err
	}
	if err := m.rowsBelow(ctx, math.MaxInt64); err != nil {
		return err
	}
	return a.lookUp(ctx)
}

// merge is the position in the rows and the records of one partition.
type merge struct {
	*audit
	rows sentRows
	log  kafka.Range
	// row is the next row, and offset where it is marked. They are valid if more is set.
	row    store.SentRow
	offset int64
	more   bool
}

func (m *merge) next(ctx context.Context) (err error) {
	m.row, m.more, err = m.rows.Next(ctx)
	if m.more {
		m.offset = m.row.Emission.Offset
	}
	return err
}

// rowsBelow judges the rows below an offset that have not been judged. The log has no record for
// them.
func (m *merge) rowsBelow(ctx context.Context, offset int64) error {
	for m.more && m.offset < offset {
		m.rowWithoutRecord()
		if err := m.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// record judges a record. If a row claims it, their contents are compared. If no row claims it, its
// payment is looked up later. If several rows claim one offset, at most one of them is right.
func (m *merge) record(ctx context.Context, r kafka.Record) error {
	id, err := payment.ParseID(string(r.Key))
	known := err == nil
	claimed := false
	for m.more && m.offset == r.Offset {
		if known && m.row.ID == id {
			claimed = true
			m.compare(r)
		} else {
			m.rowWithoutRecord()
		}
		if err := m.next(ctx); err != nil {
			return err
		}
	}
	switch {
	case claimed:
		return nil
	case !known:
		key := fmt.Sprintf("%q", r.Key[:min(len(r.Key), keyBytesMax)])
		add(&m.report.Unexpected, &m.report.Examples.Unexpected, key)
		return nil
	}
	m.pending = append(m.pending, id)
	if len(m.pending) == lookUpMax {
		return m.lookUp(ctx)
	}
	return nil
}

// rowWithoutRecord judges a row that has no record at its offset. The ends of the log were read
// after the snapshot, so a row at or above the high watermark has lost its record.
func (m *merge) rowWithoutRecord() {
	switch {
	case m.offset < m.log.Start:
		m.report.NotJudged.DeletedRecords++
	case m.log.StableEnd <= m.offset && m.offset < m.log.End:
		add(&m.report.Hidden, &m.report.Examples.Hidden, m.row.ID.String())
	default:
		add(&m.report.Missing, &m.report.Examples.Missing, m.row.ID.String())
	}
}

// lookUp judges the records that no row claims.
func (a *audit) lookUp(ctx context.Context) error {
	places, err := a.places(ctx)
	if err != nil {
		return err
	}
	for _, id := range a.pending {
		place, exists := places[id]
		_, seen := a.inFlight[id]
		switch {
		case !exists:
			add(&a.report.Unexpected, &a.report.Examples.Unexpected, id.String())
		case place.Offset >= 0, seen: // It is marked at another offset, or this is not its first record.
			add(&a.report.Duplicates, &a.report.Examples.Duplicates, id.String())
		case len(a.inFlight) == inFlightMax:
			return fmt.Errorf("more than %d records are of payments that are not marked sent: "+
				"is this the right database?", inFlightMax)
		default:
			a.inFlight[id] = struct{}{}
			a.report.NotJudged.InFlight++
		}
	}
	a.pending = a.pending[:0]
	return nil
}

// places looks the pending payments up in the snapshot. A payment that is not there may have been
// created and sent before the ends of the log were read. So it is looked up again in a later
// snapshot. If it is there, it is in flight, marked or not.
func (a *audit) places(ctx context.Context) (map[payment.ID]store.Place, error) {
	places, err := a.snapshot.Places(ctx, a.pending)
	if err != nil || len(a.pending) == 0 {
		return nil, err
	}
	var absent []payment.ID
	for _, id := range a.pending {
		if _, exists := places[id]; !exists {
			absent = append(absent, id)
		}
	}
	if len(absent) == 0 {
		return places, nil
	}
	if a.later == nil {
		a.later, err = a.table.snapshot(ctx)
		if err != nil {
			return nil, err
		}
	}
	later, err := a.later.Places(ctx, absent)
	for id, place := range later {
		places[id] = store.Place{Partition: place.Partition, Offset: -1}
	}
	return places, err
}

// add counts a payment, and adds it to the examples if it is one of the first.
func add(n *int64, examples *[]string, id string) {
	*n++
	if len(*examples) < examplesMax {
		*examples = append(*examples, id)
	}
}
