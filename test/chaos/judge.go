package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/test/harness"
)

// entry is a line of the client's journal: one idempotency key, which it used until it was answered.
type entry struct {
	id       uuid.UUID     // As the 202 said; zero while there was none.
	account  int32         // The sender's.
	sent     time.Duration // When the first POST was sent, after the load began.
	answered time.Duration // When the first 202 was received; 0 while there was none.
}

// row is a payment in the table.
type row struct {
	id        uuid.UUID
	partition int32
	offset    int64 // -1 while it is not sent.
}

// record is a payment in the topic, as a read_committed consumer sees it.
type record = harness.Record

// verdict counts what may not be.
type verdict struct {
	Duplicates int // Records of a payment beyond its first.
	Missing    int // Payments in the table that are not in the topic.
	Unexpected int // Records of no payment in the table.
	Misplaced  int // Payments that are in the topic, but not where the table says.
	Unsent     int // Payments still to be sent.
	Lost       int // Answered with 202, and not in the table.
	Unasked    int // Payments in the table beyond what the client can have asked for.
	Shared     int // Keys that were answered with another key's payment.
	Disorder   int // Payments that precede one whose 202 was received before their POST was sent.
	Examples   []string
}

func (v *verdict) ok() bool {
	return v.Duplicates+v.Missing+v.Unexpected+v.Misplaced+v.Unsent+v.Lost+v.Unasked+v.Shared+v.Disorder == 0
}

// String names the counts.
func (v *verdict) String() string {
	return fmt.Sprintf("%d duplicates, %d missing, %d unexpected, %d misplaced, %d unsent, %d lost, %d unasked, %d shared, %d out of order",
		v.Duplicates, v.Missing, v.Unexpected, v.Misplaced, v.Unsent, v.Lost, v.Unasked, v.Shared, v.Disorder)
}

const examplesMax = 20

func (v *verdict) found(n *int, format string, args ...any) {
	*n++
	if len(v.Examples) < examplesMax {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// judge holds the topic against the table, and both against the journal. Each answered payment must be in both once, and in order.
func judge(journal []entry, rows []row, records []record) *verdict {
	v := &verdict{}
	records = slices.Clone(records)
	slices.SortFunc(records, harness.InLogOrder)
	first := v.topic(rows, records)
	v.answers(journal, rows)
	v.order(journal, first)
	return v
}

// topic judges the table against the topic, and returns where each payment is first.
func (v *verdict) topic(rows []row, records []record) (first map[uuid.UUID]record) {
	table := make(map[uuid.UUID]row, len(rows))
	for _, r := range rows {
		table[r.id] = r
	}
	first = make(map[uuid.UUID]record, len(records))
	for _, r := range records {
		before, again := first[r.ID]
		if _, known := table[r.ID]; !known {
			v.found(&v.Unexpected, "unexpected %s at %d/%d", r.ID, r.Partition, r.Offset)
		}
		if again {
			v.found(&v.Duplicates, "duplicate %s at %d/%d, first at %d/%d", r.ID, r.Partition, r.Offset, before.Partition, before.Offset)
			continue
		}
		first[r.ID] = r
	}
	for _, r := range rows {
		in, there := first[r.id]
		switch {
		case !there && r.offset < 0:
			v.found(&v.Unsent, "unsent %s of partition %d", r.id, r.partition)
		case !there:
			v.found(&v.Missing, "missing %s, marked at %d/%d", r.id, r.partition, r.offset)
		case in.Partition != r.partition || in.Offset != r.offset:
			v.found(&v.Misplaced, "misplaced %s, marked at %d/%d, is at %d/%d", r.id, r.partition, r.offset, in.Partition, in.Offset)
		}
	}
	return first
}

// answers judges the table against the journal. A request whose outcome is unknown may have made one payment, or none.
func (v *verdict) answers(journal []entry, rows []row) {
	table := make(map[uuid.UUID]bool, len(rows)) // True once the journal has named it.
	for _, r := range rows {
		table[r.id] = false
	}
	unknown, named := 0, 0
	for n, e := range journal {
		if e.id == uuid.Nil {
			unknown++
			continue
		}
		already, there := table[e.id]
		switch {
		case !there:
			v.found(&v.Lost, "lost %s, answered with 202 to request %d", e.id, n)
		case already:
			v.found(&v.Shared, "payment %s answers request %d, and another one", e.id, n)
		default:
			table[e.id] = true
			named++
		}
	}
	for n := len(rows) - named - unknown; n > 0; n-- {
		v.found(&v.Unasked, "%d payments, %d named by answers, %d requests unknown", len(rows), named, unknown)
	}
}

// order judges that a payment whose 202 was received before another's POST was sent precedes it in the same partition, if both are of one sender account. Requests
// under way at once have no order. In O(n log n): for each POST, by time, the last place of all that were answered by then.
func (v *verdict) order(journal []entry, first map[uuid.UUID]record) {
	byAccount := map[int32][]int{}
	for n, e := range journal {
		if _, there := first[e.id]; there {
			byAccount[e.account] = append(byAccount[e.account], n)
		}
	}
	for _, requests := range byAccount {
		sent, answered := requests, slices.Clone(requests)
		slices.SortFunc(sent, func(a, b int) int { return cmp.Compare(journal[a].sent, journal[b].sent) })
		slices.SortFunc(answered, func(a, b int) int { return cmp.Compare(journal[a].answered, journal[b].answered) })
		last := record{Offset: -1}
		for _, n := range sent {
			for len(answered) > 0 && journal[answered[0]].answered < journal[n].sent {
				r := first[journal[answered[0]].id]
				if last.Offset < 0 || r.Offset > last.Offset {
					last = r
				}
				answered = answered[1:]
			}
			r := first[journal[n].id]
			if last.Offset >= 0 && (r.Partition != last.Partition || r.Offset <= last.Offset) {
				v.found(&v.Disorder, "order: %s at %d/%d was asked for after the answer of %s at %d/%d", r.ID, r.Partition, r.Offset, last.ID, last.Partition, last.Offset)
			}
		}
	}
}

// Of each five minutes of a run.
const (
	windowsMin = 20  // Times that a take-over found payments that Kafka had committed and PostgreSQL had not.
	faultsMin  = 300 // Faults fired.
)

// atLeast is how much of a minimum for five minutes a run of the given length needs.
func atLeast(min int, duration time.Duration) int {
	return max(1, int(float64(min)*duration.Minutes()/5))
}

// harsh tells why the run proves too little, if it does: a test that hit nothing must not pass.
func harsh(duration time.Duration, fired map[kind]int, brokers, windows int) []string {
	var faults []string
	total := 0
	for _, s := range bagOf(brokers) {
		total += fired[s.kind]
		if fired[s.kind] == 0 {
			faults = append(faults, fmt.Sprintf("no fault %q has fired", s.kind))
		}
	}
	if want := atLeast(faultsMin, duration); total < want {
		faults = append(faults, fmt.Sprintf("%d faults fired, fewer than %d", total, want))
	}
	if want := atLeast(windowsMin, duration); windows < want {
		faults = append(faults, fmt.Sprintf("the window between Kafka's commit and PostgreSQL's was hit %d times, fewer than %d", windows, want))
	}
	return faults
}
