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

// goodRun is a run without violations: some accounts, each with one payment after the other. All
// are confirmed, sent, and in the topic in order.
func goodRun() (journal []entry, rows []row, records []record) {
	const accounts, payments = 3, 40
	ends := map[int32]int64{}
	for n := range accounts * payments {
		account := int32(n % accounts)
		id := uuid.MustParse("00000000-0000-7000-8000-000000000000")
		id[14], id[15] = byte(n>>8), byte(n)+1
		partition := account % 2
		sent := time.Duration(10 * n)
		journal = append(journal, entry{id: id, account: account, sent: sent, received: sent + 5})
		rows = append(rows, row{id, partition, ends[partition]})
		records = append(records, record{ID: id, Partition: partition, Offset: ends[partition]})
		ends[partition] += 1 + int64(n%2) // Markers also take offsets.
	}
	return journal, rows, records
}

// The judge must find nothing in a good run, and exactly the violation in a spoiled one.
func TestJudge(t *testing.T) {
	unexpected := uuid.MustParse("11111111-0000-7000-8000-000000000000")
	for name, tc := range map[string]struct {
		spoil func(journal *[]entry, rows *[]row, records *[]record)
		want  verdict
	}{
		"Good": {func(*[]entry, *[]row, *[]record) {}, verdict{}},
		"Duplicate": {func(_ *[]entry, _ *[]row, records *[]record) {
			again := (*records)[7]
			again.Offset = 10_000
			*records = append(*records, again)
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
		"Unrequested": {func(_ *[]entry, rows *[]row, records *[]record) {
			*rows = append(*rows, row{unexpected, 0, 10_000})
			*records = append(*records, record{ID: unexpected, Offset: 10_000})
		}, verdict{Unrequested: 1}},
		"UnknownThere": {func(journal *[]entry, _ *[]row, _ *[]record) {
			(*journal)[7].id, (*journal)[7].received = uuid.Nil, 0
		}, verdict{}},
		"UnknownNotThere": {func(journal *[]entry, rows *[]row, records *[]record) {
			(*journal)[7].id, (*journal)[7].received = uuid.Nil, 0
			*rows, *records = slices.Delete(*rows, 7, 8), slices.Delete(*records, 7, 8)
		}, verdict{}},
		"UnknownThereTwice": {func(journal *[]entry, rows *[]row, records *[]record) {
			(*journal)[7].id, (*journal)[7].received = uuid.Nil, 0
			*rows = append(*rows, row{unexpected, 0, 10_000})
			*records = append(*records, record{ID: unexpected, Offset: 10_000})
		}, verdict{Unrequested: 1}},
		"Shared": {func(journal *[]entry, rows *[]row, records *[]record) {
			(*journal)[8].id, (*journal)[8].sent = (*journal)[5].id, (*journal)[5].sent
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
			(*journal)[a].received = (*journal)[b].sent // Not before it.
			(*rows)[a].offset, (*rows)[b].offset = (*rows)[b].offset, (*rows)[a].offset
			(*records)[a].Offset, (*records)[b].Offset = (*records)[b].Offset, (*records)[a].Offset
		}, verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			journal, rows, records := goodRun()
			tc.spoil(&journal, &rows, &records)
			rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
			v := judge(journal, rows, records)
			if v.String() != tc.want.String() || v.ok() != (tc.want.String() == (&verdict{}).String()) {
				t.Errorf("got %s, want %s\n%s", v, &tc.want, strings.Join(v.Examples, "\n"))
			}
		})
	}
}

// The order judged in O(n log n) must be that of its definition, which compares all pairs.
func TestJudge_OrderAgainstAllPairs(t *testing.T) {
	bad := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		var journal []entry
		first := map[uuid.UUID]record{}
		for n := range 12 {
			id := uuid.UUID{15: byte(n + 1)}
			sent := time.Duration(r.IntN(40))
			e := entry{id: id, account: int32(r.IntN(2)), sent: sent, received: sent + 1 + time.Duration(r.IntN(15))}
			journal = append(journal, e)
			first[id] = record{ID: id, Offset: int64(sent)*3 + r.Int64N(60)}
		}
		disordered := map[uuid.UUID]bool{}
		for _, a := range journal {
			for _, b := range journal {
				if a.account == b.account && a.received < b.sent && first[a.id].Offset >= first[b.id].Offset {
					disordered[b.id] = true
				}
			}
		}
		v := &verdict{}
		v.order(journal, first)
		if v.Disorder != len(disordered) {
			t.Fatalf("seed %d: got %d out of order, want %d", seed, v.Disorder, len(disordered))
		}
		bad += v.Disorder
	}
	if bad == 0 {
		t.Error("got no payment out of order, want some: this proves nothing")
	}
}

// A run that hit too little must not pass, whatever the verdict on its payments.
func TestCoverage(t *testing.T) {
	const fiveMinutes = 5 * time.Minute
	all := func() map[kind]int {
		fired := map[kind]int{}
		for _, s := range bagOf(1) {
			fired[s.kind] = 20
		}
		return fired
	}
	if faults := coverage(fiveMinutes, all(), 1, windowsMin); len(faults) > 0 {
		t.Errorf("got faults %q of a run with enough of each kind, want none", faults)
	}
	faults := coverage(fiveMinutes, all(), 1, windowsMin-1)
	if len(faults) != 1 || !strings.Contains(faults[0], "window") {
		t.Errorf("got faults %q with %d windows, want one about the window", faults, windowsMin-1)
	}
	if faults := coverage(6*fiveMinutes, all(), 1, 6*windowsMin-1); len(faults) != 2 {
		t.Errorf("got faults %q of half an hour with %d windows, want two", faults, 6*windowsMin-1)
	}
	if faults := coverage(fiveMinutes/100, all(), 1, 0); len(faults) != 1 {
		t.Errorf("got faults %q of three seconds without a window, want one", faults)
	}
	one := all()
	one[zombie] = 0
	one[killed] += 20
	faults = coverage(fiveMinutes, one, 1, windowsMin)
	if len(faults) != 1 || !strings.Contains(faults[0], string(zombie)) {
		t.Errorf("got faults %q without a zombie, want one about it", faults)
	}
	few := map[kind]int{}
	for _, s := range bagOf(1) {
		few[s.kind] = 1
	}
	faults = coverage(fiveMinutes, few, 1, windowsMin)
	if len(faults) != 1 || !strings.Contains(faults[0], "faults fired") {
		t.Errorf("got faults %q with one fault of each kind, want one about their number", faults)
	}
}

// The witnesses must agree with each other and with the judge.
func TestEvidence_Disagreements(t *testing.T) {
	good := func() (evidence, *verdict) {
		_, rows, records := goodRun()
		slices.SortFunc(records, harness.InLogOrder)
		e := evidence{rows: rows, kcat: records, console: slices.Clone(records)}
		e.report.Payments, e.report.Records = int64(len(rows)), int64(len(records))
		return e, &verdict{}
	}
	e, v := good()
	if faults := e.disagreements(v); len(faults) > 0 {
		t.Errorf("got disagreements %q, want none", faults)
	}
	for name, spoil := range map[string]func(*evidence, *verdict){
		"ConsumerMisses":     func(e *evidence, _ *verdict) { e.console = e.console[1:] },
		"ConsumerSeesOther":  func(e *evidence, _ *verdict) { e.console[3].Offset++ },
		"VerifyCounts":       func(e *evidence, _ *verdict) { e.report.Records++ },
		"VerifyFinds":        func(e *evidence, _ *verdict) { e.report.Duplicates++ },
		"VerifyDoesNotFind":  func(_ *evidence, v *verdict) { v.Duplicates++ },
		"VerifyMisses":       func(e *evidence, _ *verdict) { e.report.Missing++ },
		"VerifyFindsHidden":  func(e *evidence, _ *verdict) { e.report.Hidden++ },
		"VerifyDoesNotJudge": func(e *evidence, _ *verdict) { e.report.NotJudged.InFlight++ },
	} {
		t.Run(name, func(t *testing.T) {
			e, v := good()
			spoil(&e, v)
			if len(e.disagreements(v)) == 0 {
				t.Error("got no disagreement, want one")
			}
		})
	}
}
