package auditor

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

const topicName = "payments"

// id returns the nth payment id.
func id(n int) (id payment.ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(n))
	return id
}

// row is a payment in the table. Offset -1 is a payment that is not sent.
type row struct {
	id        payment.ID
	partition int32
	offset    int64
}

// fakeTable is a table in memory. The test may change rows between snapshots.
type fakeTable struct {
	partitions []store.Partition
	rows       []row
	// lookUps counts the statements that look payments up.
	lookUps int
}

// newFakeTable returns a table with n partitions.
func newFakeTable(n int32, rows ...row) *fakeTable {
	t := &fakeTable{rows: rows}
	for number := range n {
		t.partitions = append(t.partitions, store.Partition{Topic: topicName, Number: number})
	}
	return t
}

func (t *fakeTable) snapshot(context.Context) (snapshot, error) {
	return &fakeSnapshot{t, slices.Clone(t.rows)}, nil
}

type fakeSnapshot struct {
	table *fakeTable
	rows  []row
}

func (s *fakeSnapshot) Close() {}

func (s *fakeSnapshot) Partitions(context.Context) ([]store.Partition, error) {
	return s.table.partitions, nil
}

func (s *fakeSnapshot) Totals(context.Context) (totals []store.Totals, err error) {
	byPartition := map[int32]*store.Totals{}
	for _, r := range s.rows {
		t := byPartition[r.partition]
		if t == nil {
			t = &store.Totals{Partition: r.partition, LastOffset: -1}
			byPartition[r.partition] = t
		}
		t.Payments++
		t.LastOffset = max(t.LastOffset, r.offset)
		if r.offset < 0 {
			t.Unsent++
		}
	}
	for _, t := range byPartition {
		totals = append(totals, *t)
	}
	return totals, nil
}

func (s *fakeSnapshot) Places(_ context.Context, ids []payment.ID) (map[payment.ID]store.Place, error) {
	s.table.lookUps++
	all := map[payment.ID]store.Place{}
	for _, r := range s.rows {
		all[r.id] = store.Place{Partition: r.partition, Offset: r.offset}
	}
	places := map[payment.ID]store.Place{}
	for _, id := range ids {
		if place, ok := all[id]; ok {
			places[id] = place
		}
	}
	return places, nil
}

func (s *fakeSnapshot) sent(_ context.Context, _ string, partition int32) (sentRows, error) {
	var rows []row
	for _, r := range s.rows {
		if r.partition == partition && r.offset >= 0 {
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return int(a.offset - b.offset) })
	return &fakeRows{rows}, nil
}

type fakeRows struct{ rows []row }

func (r *fakeRows) Close() {}

func (r *fakeRows) Next(context.Context) (store.SentRow, bool, error) {
	if len(r.rows) == 0 {
		return store.SentRow{}, false, nil
	}
	next := r.rows[0]
	r.rows = r.rows[1:]
	p := content(next.id)
	p.Emission = &payment.Emission{Offset: next.offset}
	return store.SentRow{Payment: p}, true, nil
}

// content returns a payment with this id. Those of two ids differ in nothing else.
func content(id payment.ID) payment.Payment {
	return payment.Payment{
		ID: id, Tenant: payment.TenantRef{ID: 1, Name: "acme"}, Money: payment.Money{Minor: 1, Currency: "EUR"},
		Originator: payment.Party{ID: "1", Name: "Y"}, Beneficiary: payment.Party{ID: "2", Name: "X"},
		Sender:    payment.Account{Type: "checking", Number: "1"},
		Receiver:  payment.Account{Type: "checking", Number: "2"},
		Reference: "INV-7", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Seq: 7,
		Status: payment.StatusSent, CreatedAt: time.Date(2026, 11, 24, 12, 0, 0, 1000, time.UTC),
	}
}

// fakeLog is a topic in memory. It contains the records that a read_committed consumer sees.
type fakeLog struct {
	ranges  []kafka.Range
	records map[int32][]kafka.Record
	// err fails the reads of the ends.
	err error
	// reads counts the reads of the ends. hook is called before each of them.
	reads int
	hook  func(l *fakeLog)
}

func (l *fakeLog) Ranges(context.Context, string) ([]kafka.Range, error) {
	l.reads++
	if l.hook != nil {
		l.hook(l)
	}
	return slices.Clone(l.ranges), l.err
}

func (l *fakeLog) Read(
	_ context.Context, _ string, partition int32, from, to int64, each func(kafka.Record) error,
) error {
	for _, r := range l.records[partition] {
		if r.Offset < from || r.Offset >= to {
			continue
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// record returns a record with a key. If the key is an id, it is the record of content.
func record(offset int64, key string) kafka.Record {
	id, err := payment.ParseID(key)
	if err != nil {
		return kafka.Record{Offset: offset, Event: kafka.Event{Key: []byte(key)}}
	}
	return recordOf(offset, content(id))
}

// recordOf returns the record of a payment.
func recordOf(offset int64, p payment.Payment) kafka.Record {
	event, err := kafka.NewEncoder("/test").Encode(p)
	if err != nil {
		panic(err) // content makes payments that can be encoded.
	}
	return kafka.Record{Offset: offset, Event: event}
}

// newFakeLog returns a log of one partition that ends at end.
func newFakeLog(end int64, records ...kafka.Record) *fakeLog {
	return &fakeLog{
		ranges:  []kafka.Range{{StableEnd: end, End: end}},
		records: map[int32][]kafka.Record{0: records},
	}
}

// mustRun runs an audit that must not fail, and returns the report without its topic.
func mustRun(t *testing.T, table table, log Log) Report {
	t.Helper()
	report, err := run(t.Context(), table, log)
	if err != nil {
		t.Fatal(err)
	}
	if report.Topic != topicName {
		t.Errorf("got topic %q, want %q", report.Topic, topicName)
	}
	report.Topic = ""
	return report
}
