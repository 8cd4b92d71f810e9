package auditor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// TestRun judges rows and records of one partition. The log has the offsets from 2 to 8. Offsets
// without a record are those of markers and of aborted records.
func TestRun(t *testing.T) {
	t.Parallel()
	const start, stableEnd, end = 2, 8, 10
	one, two, other := id(1).String(), id(2).String(), id(0xabc).String()
	longKey := strings.Repeat("k", 2*keyBytesMax)
	for name, test := range map[string]struct {
		rows    []row
		records []kafka.Record
		want    Report
	}{
		"Empty": {},
		"Clean": {
			rows:    []row{{id(1), 0, 2}, {id(2), 0, 7}, {id(3), 0, -1}},
			records: []kafka.Record{record(2, one), record(7, two)},
			want:    Report{Payments: 3, Records: 2, Unsent: 1},
		},
		"DuplicateAfterMark": {
			rows:    []row{{id(1), 0, 2}},
			records: []kafka.Record{record(2, one), record(3, one), record(7, one)},
			want:    Report{Payments: 1, Records: 3, Duplicates: 2, Examples: Examples{Duplicates: []string{one, one}}},
		},
		"DuplicateBeforeMark": {
			rows:    []row{{id(1), 0, 3}},
			records: []kafka.Record{record(2, one), record(3, one)},
			want:    Report{Payments: 1, Records: 2, Duplicates: 1, Examples: Examples{Duplicates: []string{one}}},
		},
		"MissingInGap": {
			rows:    []row{{id(1), 0, 3}, {id(2), 0, 4}},
			records: []kafka.Record{record(2, "x"), record(4, two)},
			want: Report{
				Payments: 2, Records: 2, Missing: 1, Unexpected: 1,
				Examples: Examples{Missing: []string{one}, Unexpected: []string{`"x"`}},
			},
		},
		"MissingAfterLastRecord": {
			rows:    []row{{id(1), 0, 2}, {id(2), 0, 7}},
			records: []kafka.Record{record(2, one)},
			want:    Report{Payments: 2, Records: 1, Missing: 1, Examples: Examples{Missing: []string{two}}},
		},
		"MissingOtherRecordThere": {
			rows:    []row{{id(1), 0, 2}, {id(2), 0, 3}},
			records: []kafka.Record{record(2, one), record(3, one)},
			want: Report{
				Payments: 2, Records: 2, Missing: 1, Duplicates: 1,
				Examples: Examples{Missing: []string{two}, Duplicates: []string{one}},
			},
		},
		"TwoRowsOneOffset": {
			rows:    []row{{id(1), 0, 3}, {id(2), 0, 3}},
			records: []kafka.Record{record(3, two)},
			want:    Report{Payments: 2, Records: 1, Missing: 1, Examples: Examples{Missing: []string{one}}},
		},
		"Deleted": {
			rows:    []row{{id(1), 0, 0}, {id(2), 0, 1}, {id(3), 0, 2}},
			records: []kafka.Record{record(2, id(3).String())},
			want:    Report{Payments: 3, Records: 1, NotJudged: NotJudged{DeletedRecords: 2}},
		},
		"Unexpected": {
			records: []kafka.Record{
				record(2, other), record(3, ""), record(4, strings.ToUpper(other)), record(5, longKey),
			},
			want: Report{
				Records: 4, Unexpected: 4,
				Examples: Examples{Unexpected: []string{
					`""`, `"` + strings.ToUpper(other) + `"`, `"` + longKey[:keyBytesMax] + `"`, other,
				}},
			},
		},
		"InFlight": {
			rows:    []row{{id(1), 0, -1}, {id(2), 0, -1}},
			records: []kafka.Record{record(2, one), record(3, two)},
			want:    Report{Payments: 2, Records: 2, Unsent: 2, NotJudged: NotJudged{InFlight: 2}},
		},
		"InFlightTwice": {
			rows:    []row{{id(1), 0, -1}},
			records: []kafka.Record{record(2, one), record(3, one)},
			want: Report{
				Payments: 1, Records: 2, Unsent: 1, Duplicates: 1,
				NotJudged: NotJudged{InFlight: 1}, Examples: Examples{Duplicates: []string{one}},
			},
		},
		"Hidden": {
			rows: []row{{id(1), 0, 8}, {id(2), 0, 9}},
			want: Report{Payments: 2, Hidden: 2, Examples: Examples{Hidden: []string{one, two}}},
		},
		"BeyondEnd": {
			rows: []row{{id(1), 0, 9}, {id(2), 0, 10}},
			want: Report{
				Payments: 2, Hidden: 1, Missing: 1,
				Examples: Examples{Hidden: []string{one}, Missing: []string{two}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newFakeLog(end, test.records...)
				log.ranges[0].Start, log.ranges[0].StableEnd = start, stableEnd
				got := mustRun(t, newFakeTable(1, test.rows...), log)
				if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", test.want); g != w {
					t.Errorf("got  %s\nwant %s", g, w)
				}
				contradicts := test.want.Duplicates+test.want.Missing+test.want.Unexpected > 0
				if got.Contradicts() != contradicts {
					t.Errorf("got Contradicts %t, want %t", got.Contradicts(), contradicts)
				}
				if ok := !contradicts && test.want.Hidden == 0; got.OK() != ok {
					t.Errorf("got OK %t, want %t", got.OK(), ok)
				}
			})
		})
	}
}

// TestRun_Partitions: partitions are judged apart. A record in another partition than its payment's
// mark is a duplicate. A partition that the table does not know is judged too.
func TestRun_Partitions(t *testing.T) {
	t.Parallel()
	log := newFakeLog(3, record(0, id(1).String()))
	log.ranges = append(log.ranges, kafka.Range{StableEnd: 3, End: 3}, kafka.Range{StableEnd: 3, End: 3})
	log.records[1] = []kafka.Record{record(0, id(2).String()), record(1, id(1).String())}
	log.records[2] = []kafka.Record{record(0, id(3).String())}
	got := mustRun(t, newFakeTable(2, row{id(1), 0, 0}, row{id(2), 1, 0}), log)
	if got.Payments != 2 || got.Records != 4 || got.Duplicates != 1 || got.Unexpected != 1 || got.Missing != 0 {
		t.Errorf("got %+v, want 2 payments, 4 records, 1 duplicate, 1 unexpected", got)
	}
}

// TestRun_Examples: all faults are counted, and the first are named.
func TestRun_Examples(t *testing.T) {
	t.Parallel()
	var rows []row
	for n := range examplesMax + 5 {
		rows = append(rows, row{id(n), 0, int64(n)})
	}
	got := mustRun(t, newFakeTable(1, rows...), newFakeLog(100))
	examples := got.Examples.Missing
	if got.Missing != examplesMax+5 || len(examples) != examplesMax || examples[0] != id(0).String() {
		t.Errorf("got %d missing and examples %q, want %d and the first %d",
			got.Missing, examples, examplesMax+5, examplesMax)
	}
}

// TestRun_LookUps: records that no row claims are looked up in batches, also if there are many.
func TestRun_LookUps(t *testing.T) {
	t.Parallel()
	const n = 2*lookUpMax + 1
	table, log := newFakeTable(1), newFakeLog(n)
	for i := range n {
		table.rows = append(table.rows, row{id(i), 0, -1})
		log.records[0] = append(log.records[0], record(int64(i), id(i).String()))
	}
	got := mustRun(t, table, log)
	if got.NotJudged.InFlight != n || got.Records != n || !got.OK() {
		t.Errorf("got %+v, want %d records in flight", got, n)
	}
	if table.lookUps != 3 {
		t.Errorf("got %d statements, want 3", table.lookUps)
	}
}

// TestRun_CreatedLater: a payment that was created after the snapshot is in flight, sent or not.
func TestRun_CreatedLater(t *testing.T) {
	t.Parallel()
	table := newFakeTable(1)
	log := newFakeLog(3, record(0, id(1).String()), record(1, id(2).String()), record(2, id(3).String()))
	log.hook = func(*fakeLog) { table.rows = []row{{id(1), 0, 0}, {id(2), 0, -1}} }
	got := mustRun(t, table, log)
	if got.Payments != 0 || got.NotJudged.InFlight != 2 || got.Unexpected != 1 {
		t.Errorf("got %+v, want 2 in flight and 1 unexpected", got)
	}
}

// TestRun_Ends: the ends are read again while a payment is not below the stable end, for
// lastReadAfter at most.
func TestRun_Ends(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// stableAt is when the stable end reaches the payment; 0 is never.
		stableAt time.Duration
		missing  int64
	}{
		"AtOnce": {time.Nanosecond, 0}, "Late": {lastReadAfter - time.Millisecond, 0}, "Never": {0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				log := newFakeLog(0, record(0, id(1).String()))
				log.hook = func(l *fakeLog) {
					if test.stableAt > 0 && time.Since(began) >= test.stableAt {
						l.ranges[0].StableEnd, l.ranges[0].End = 1, 1
					}
				}
				got := mustRun(t, newFakeTable(1, row{id(1), 0, 0}), log)
				if got.Missing != test.missing {
					t.Errorf("got %d missing, want %d", got.Missing, test.missing)
				}
				if took := time.Since(began); took > lastReadAfter+readInterval || log.reads < 2 {
					t.Errorf("got %d reads in %s, want more than 1 in at most %s", log.reads, took, lastReadAfter)
				}
			})
		})
	}
}

// TestRun_Errors checks what an audit refuses.
func TestRun_Errors(t *testing.T) {
	t.Parallel()
	errBroker := errors.New("no leader")
	for name, test := range map[string]struct {
		prepare func(*fakeTable, *fakeLog)
		want    error
		took    time.Duration
	}{
		"NotSetUp":        {func(t *fakeTable, _ *fakeLog) { t.partitions = nil }, store.ErrNoTopic, 0},
		"NoTopic":         {func(_ *fakeTable, l *fakeLog) { l.err = kafka.ErrNoTopic }, kafka.ErrNoTopic, 0},
		"OtherTopicID":    {func(_ *fakeTable, l *fakeLog) { l.ranges[0].TopicID[0] = 1 }, ErrOtherTopic, 0},
		"FewerPartitions": {func(_ *fakeTable, l *fakeLog) { l.ranges = nil }, ErrOtherTopic, 0},
		"RowBeyond":       {func(t *fakeTable, _ *fakeLog) { t.rows = []row{{id(1), 1, 0}} }, ErrOtherTopic, 0},
		"BrokerAway":      {func(_ *fakeTable, l *fakeLog) { l.err = errBroker }, errBroker, readTimeout},
		"LeaderComesBack": {func(_ *fakeTable, l *fakeLog) {
			l.err = errBroker
			l.hook = func(l *fakeLog) {
				if l.reads == 3 {
					l.err = nil
				}
			}
		}, nil, 2 * readInterval},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table, log := newFakeTable(1), newFakeLog(0)
				test.prepare(table, log)
				began := time.Now()
				_, err := run(t.Context(), table, log)
				if !errors.Is(err, test.want) {
					t.Errorf("got error %v, want %v", err, test.want)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("got an error after %s, want %s", took, test.took)
				}
			})
		})
	}
}
