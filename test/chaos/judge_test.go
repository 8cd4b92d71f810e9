package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/test/harness"
)

// story is a run in which all went well: some accounts, each with one payment after the other, all answered, sent and in the topic in order.
func story() (journal []entry, rows []row, records []record) {
	const accounts, payments = 3, 40
	ends := map[int32]int64{}
	for n := range accounts * payments {
		account := int32(n % accounts)
		id := uuid.MustParse("00000000-0000-7000-8000-000000000000")
		id[14], id[15] = byte(n>>8), byte(n)+1
		partition := account % 2
		journal = append(journal, entry{id: id, account: account, sent: time.Duration(10 * n), answered: time.Duration(10*n + 5)})
		rows = append(rows, row{id, partition, ends[partition]})
		records = append(records, record{ID: id, Partition: partition, Offset: ends[partition]})
		ends[partition] += 1 + int64(n%2) // Markers take offsets, too.
	}
	return journal, rows, records
}

// The judge must find nothing in a good story, and exactly what a bad hand has done to it.
func TestJudge(t *testing.T) {
	unexpected := uuid.MustParse("11111111-0000-7000-8000-000000000000")
	for name, tc := range map[string]struct {
		spoil func(journal *[]entry, rows *[]row, records *[]record)
		want  verdict
	}{
		"Good": {func(*[]entry, *[]row, *[]record) {}, verdict{}},
		"Duplicate": {func(_ *[]entry, _ *[]row, records *[]record) {
			*records = append(*records, record{ID: (*records)[7].ID, Partition: (*records)[7].Partition, Offset: 10_000})
		}, verdict{Duplicates: 1}},
		"DuplicateInAnotherPartition": {func(_ *[]entry, _ *[]row, records *[]record) {
			*records = append(*records, record{ID: (*records)[7].ID, Partition: 9})
		}, verdict{Duplicates: 1}},
		"Missing": {func(_ *[]entry, _ *[]row, records *[]record) {
			*records = slices.Delete(*records, 7, 8)
		}, verdict{Missing: 1}},
		"Unexpected": {func(_ *[]entry, _ *[]row, records *[]record) {
			*records = append(*records, record{ID: unexpected, Offset: 10_000})
		}, verdict{Unexpected: 1}},
		"Misplaced": {func(_ *[]entry, rows *[]row, _ *[]record) {
			(*rows)[7].offset += 100
		}, verdict{Misplaced: 1}},
		"Unsent": {func(_ *[]entry, rows *[]row, records *[]record) {
			(*rows)[7].offset = -1
			*records = slices.Delete(*records, 7, 8)
		}, verdict{Unsent: 1}},
		"Lost": {func(_ *[]entry, rows *[]row, records *[]record) {
			*rows, *records = slices.Delete(*rows, 7, 8), slices.Delete(*records, 7, 8)
		}, verdict{Lost: 1}},
		"Unasked": {func(_ *[]entry, rows *[]row, records *[]record) {
			*rows, *records = append(*rows, row{unexpected, 0, 10_000}), append(*records, record{ID: unexpected, Offset: 10_000})
		}, verdict{Unasked: 1}},
		"UnknownThere": {func(journal *[]entry, _ *[]row, _ *[]record) {
			(*journal)[7].id, (*journal)[7].answered = uuid.Nil, 0
		}, verdict{}},
		"UnknownNotThere": {func(journal *[]entry, rows *[]row, records *[]record) {
			(*journal)[7].id, (*journal)[7].answered = uuid.Nil, 0
			*rows, *records = slices.Delete(*rows, 7, 8), slices.Delete(*records, 7, 8)
		}, verdict{}},
		"UnknownThereTwice": {func(journal *[]entry, rows *[]row, records *[]record) {
			(*journal)[7].id, (*journal)[7].answered = uuid.Nil, 0
			*rows, *records = append(*rows, row{unexpected, 0, 10_000}), append(*records, record{ID: unexpected, Offset: 10_000})
		}, verdict{Unasked: 1}},
		"Shared": {func(journal *[]entry, rows *[]row, records *[]record) {
			(*journal)[8] = entry{id: (*journal)[5].id, account: (*journal)[8].account, sent: (*journal)[5].sent, answered: (*journal)[8].answered}
			*rows, *records = slices.Delete(*rows, 8, 9), slices.Delete(*records, 8, 9)
		}, verdict{Shared: 1}},
		"OutOfOrder": {func(_ *[]entry, rows *[]row, records *[]record) {
			a, b := 3, 6 // One account's, one after the other.
			(*rows)[a].offset, (*rows)[b].offset = (*rows)[b].offset, (*rows)[a].offset
			(*records)[a].Offset, (*records)[b].Offset = (*records)[b].Offset, (*records)[a].Offset
		}, verdict{Disorder: 1}},
		"OtherPartition": {func(_ *[]entry, rows *[]row, records *[]record) {
			last := len(*rows) - 1
			(*rows)[last].partition, (*records)[last].Partition = 9, 9
		}, verdict{Disorder: 1}},
		"ConcurrentHaveNoOrder": {func(journal *[]entry, rows *[]row, records *[]record) {
			a, b := 3, 6
			(*journal)[a].answered = (*journal)[b].sent // Not before it.
			(*rows)[a].offset, (*rows)[b].offset = (*rows)[b].offset, (*rows)[a].offset
			(*records)[a].Offset, (*records)[b].Offset = (*records)[b].Offset, (*records)[a].Offset
		}, verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			journal, rows, records := story()
			tc.spoil(&journal, &rows, &records)
			rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
			v := judge(journal, rows, records)
			if v.String() != tc.want.String() || v.ok() != (tc.want.String() == (&verdict{}).String()) {
				t.Errorf("%s; want %s\n%s", v, &tc.want, strings.Join(v.Examples, "\n"))
			}
		})
	}
}

// The order judged in O(n log n) must be that of its definition: all pairs, looked at one by one.
func TestJudge_OrderAgainstAllPairs(t *testing.T) {
	bad := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		var journal []entry
		first := map[uuid.UUID]record{}
		for n := range 12 {
			id := uuid.UUID{15: byte(n + 1)}
			sent := time.Duration(r.IntN(40))
			journal = append(journal, entry{id: id, account: int32(r.IntN(2)), sent: sent, answered: sent + 1 + time.Duration(r.IntN(15))})
			first[id] = record{ID: id, Offset: int64(sent)*3 + r.Int64N(60)}
		}
		disordered := map[uuid.UUID]bool{}
		for _, a := range journal {
			for _, b := range journal {
				if a.account == b.account && a.answered < b.sent && first[a.id].Offset >= first[b.id].Offset {
					disordered[b.id] = true
				}
			}
		}
		v := &verdict{}
		v.order(journal, first)
		if v.Disorder != len(disordered) {
			t.Fatalf("seed %d: %d out of order, want %d", seed, v.Disorder, len(disordered))
		}
		bad += v.Disorder
	}
	if bad == 0 {
		t.Error("nothing was out of order: this shows nothing")
	}
}

// A run that hit too little must not pass, whatever the verdict on its payments.
func TestHarsh(t *testing.T) {
	const fiveMinutes = 5 * time.Minute
	all := func() map[kind]int {
		fired := map[kind]int{}
		for _, s := range bagOf(1) {
			fired[s.kind] = 20
		}
		return fired
	}
	if faults := harsh(fiveMinutes, all(), 1, windowsMin); len(faults) > 0 {
		t.Errorf("enough of all, and yet %q", faults)
	}
	if faults := harsh(fiveMinutes, all(), 1, windowsMin-1); len(faults) != 1 || !strings.Contains(faults[0], "window") {
		t.Errorf("%d windows: %q", windowsMin-1, faults)
	}
	if faults := harsh(6*fiveMinutes, all(), 1, 6*windowsMin-1); len(faults) != 2 {
		t.Errorf("six times as long with %d windows: %q", 6*windowsMin-1, faults)
	}
	if faults := harsh(fiveMinutes/100, all(), 1, 0); len(faults) != 1 {
		t.Errorf("three seconds without a window: %q", faults)
	}
	one := all()
	one[zombie] = 0
	one[killed] += 20
	if faults := harsh(fiveMinutes, one, 1, windowsMin); len(faults) != 1 || !strings.Contains(faults[0], string(zombie)) {
		t.Errorf("no zombie: %q", faults)
	}
	few := map[kind]int{}
	for _, s := range bagOf(1) {
		few[s.kind] = 1
	}
	if faults := harsh(fiveMinutes, few, 1, windowsMin); len(faults) != 1 || !strings.Contains(faults[0], "faults fired") {
		t.Errorf("one of each: %q", faults)
	}
}

// The witnesses must agree with each other and with the judge.
func TestEvidence_Disagreements(t *testing.T) {
	good := func() (evidence, *verdict) {
		_, rows, records := story()
		slices.SortFunc(records, harness.InLogOrder)
		e := evidence{rows: rows, kcat: records, console: slices.Clone(records)}
		e.report.Payments, e.report.Records = int64(len(rows)), int64(len(records))
		return e, &verdict{}
	}
	e, v := good()
	if faults := e.disagreements(v); len(faults) > 0 {
		t.Errorf("all agree, and yet %q", faults)
	}
	for name, spoil := range map[string]func(*evidence, *verdict){
		"ConsumerMisses":     func(e *evidence, _ *verdict) { e.console = e.console[1:] },
		"ConsumerSeesOther":  func(e *evidence, _ *verdict) { e.console[3].Offset++ },
		"VerifyCounts":       func(e *evidence, _ *verdict) { e.report.Records++ },
		"VerifyFinds":        func(e *evidence, _ *verdict) { e.report.Duplicates++ },
		"VerifyDoesNotFind":  func(_ *evidence, v *verdict) { v.Duplicates++ },
		"VerifyMisses":       func(e *evidence, _ *verdict) { e.report.Missing++ },
		"VerifyIsUndecided":  func(e *evidence, _ *verdict) { e.report.Undecided++ },
		"VerifyDoesNotJudge": func(e *evidence, _ *verdict) { e.report.NotJudged.InFlight++ },
	} {
		t.Run(name, func(t *testing.T) {
			e, v := good()
			spoil(&e, v)
			if len(e.disagreements(v)) == 0 {
				t.Error("no disagreement found")
			}
		})
	}
}
