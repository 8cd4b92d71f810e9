package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/test/harness"
)

// entry is a line of the client's journal: one idempotency key, used until there is a response.
type entry struct {
	id       uuid.UUID     // From the 202; zero while there was none.
	account  int32         // The sender's.
	sent     time.Duration // When the first POST was sent, after the load began.
	received time.Duration // When the first 202 was received; 0 while there was none.
}

// row is a payment in the table.
type row struct {
	id        uuid.UUID
	partition int32
	offset    int64 // -1 while it is not sent.
}

// record is a payment in the topic, as a read_committed consumer sees it.
type record = harness.Record

// verdict counts violations.
type verdict struct {
	Duplicates  int // Records of a payment beyond its first.
	Missing     int // Payments in the table that are not in the topic.
	Unexpected  int // Records of no payment in the table.
	Misplaced   int // Payments that are in the topic, but not where the table says.
	Unsent      int // Payments still to be sent.
	Lost        int // Confirmed with 202, and not in the table.
	Unrequested int // Payments in the table beyond what the client can have requested.
	Shared      int // Keys whose response names another key's payment.
	Disorder    int // Payments that precede one whose 202 was received before their POST was sent.
	Examples    []string
}

func (v *verdict) ok() bool {
	return v.Duplicates+v.Missing+v.Unexpected+v.Misplaced+v.Unsent+v.Lost+v.Unrequested+v.Shared+v.Disorder == 0
}

// String names the counts.
func (v *verdict) String() string {
	return fmt.Sprintf("%d duplicates, %d missing, %d unexpected, %d misplaced, %d unsent, %d lost, "+
		"%d never requested, %d shared, %d out of order",
		v.Duplicates, v.Missing, v.Unexpected, v.Misplaced, v.Unsent, v.Lost, v.Unrequested, v.Shared, v.Disorder)
}

const examplesMax = 20

func (v *verdict) found(n *int, format string, args ...any) {
	*n++
	if len(v.Examples) < examplesMax {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// judge compares topic, table and the requests that were sent. Each payment with a response must be
// in both once, and in order.
func judge(sent []entry, rows []row, records []record) *verdict {
	v := &verdict{}
	records = slices.Clone(records)
	slices.SortFunc(records, harness.InLogOrder)
	first := v.compareTopic(rows, records)
	v.compareJournal(sent, rows)
	v.order(sent, first)
	return v
}

// compareTopic compares the table with the topic, and returns the first record of each payment.
func (v *verdict) compareTopic(rows []row, records []record) (first map[uuid.UUID]record) {
	var payments []journal.Payment
	for _, r := range rows {
		at := client.Position{Topic: harness.Topic, Partition: r.partition, Offset: r.offset}
		payments = append(payments, journal.Payment{ID: r.id, Sent: r.offset >= 0, Position: &at})
	}
	var read []journal.Record
	first = make(map[uuid.UUID]record, len(records))
	for _, r := range records {
		at := client.Position{Topic: harness.Topic, Partition: r.Partition, Offset: r.Offset}
		read = append(read, journal.Record{ID: r.ID, Position: at})
		if _, there := first[r.ID]; !there {
			first[r.ID] = r
		}
	}
	c := journal.Compare(payments, read)
	v.Duplicates = int(c.Repeated)
	v.Missing, v.Unexpected = int(c.Missing.Count), int(c.Unexpected.Count)
	v.Misplaced, v.Unsent = int(c.Misplaced.Count), int(c.Unsent.Count)
	for _, found := range []journal.Findings{c.Duplicates, c.Missing, c.Unexpected, c.Misplaced, c.Unsent} {
		v.Examples = append(v.Examples, found.First...)
	}
	return first
}

// compareJournal compares the table with the journal. A request whose outcome is unknown may have
// made one payment, or none.
func (v *verdict) compareJournal(journal []entry, rows []row) {
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
			v.found(&v.Lost, "lost %s, confirmed with 202 to request %d", e.id, n)
		case already:
			v.found(&v.Shared, "payment %s is the result of request %d, and of another one", e.id, n)
		default:
			table[e.id] = true
			named++
		}
	}
	for n := len(rows) - named - unknown; n > 0; n-- {
		v.found(&v.Unrequested, "%d payments, %d named by responses, %d requests unknown", len(rows), named, unknown)
	}
}

// order judges the order of payments of one sender account. A payment whose 202 was received before
// another's POST was sent must precede it in the same partition. Concurrent requests have no order.
//
// It takes O(n log n): for each POST, by time, it knows the last position of all payments that were
// confirmed by then.
func (v *verdict) order(journal []entry, first map[uuid.UUID]record) {
	byAccount := map[int32][]int{}
	for n, e := range journal {
		if _, there := first[e.id]; there {
			byAccount[e.account] = append(byAccount[e.account], n)
		}
	}
	for _, requests := range byAccount {
		sent, received := requests, slices.Clone(requests)
		slices.SortFunc(sent, func(a, b int) int { return cmp.Compare(journal[a].sent, journal[b].sent) })
		slices.SortFunc(received, func(a, b int) int { return cmp.Compare(journal[a].received, journal[b].received) })
		last := record{Offset: -1}
		for _, n := range sent {
			for len(received) > 0 && journal[received[0]].received < journal[n].sent {
				r := first[journal[received[0]].id]
				if last.Offset < 0 || r.Offset > last.Offset {
					last = r
				}
				received = received[1:]
			}
			r := first[journal[n].id]
			if last.Offset >= 0 && (r.Partition != last.Partition || r.Offset <= last.Offset) {
				v.found(&v.Disorder, "order: %s at %d/%d was requested after the response for %s at %d/%d",
					r.ID, r.Partition, r.Offset, last.ID, last.Partition, last.Offset)
			}
		}
	}
}

// Minimums of each five minutes of a run.
const (
	// windowsMin is of takeovers that found payments which only Kafka had committed.
	windowsMin = 20
	// faultsMin is of faults that fired.
	faultsMin = 300
)

// atLeast converts a minimum for five minutes into that of a run's duration.
func atLeast(min int, duration time.Duration) int {
	return max(1, int(float64(min)*duration.Minutes()/5))
}

// coverage returns why the run proves too little, if it does: a test that hit nothing must fail.
func coverage(duration time.Duration, fired map[kind]int, brokers, windows int) []string {
	var faults []string
	total := 0
	for _, s := range bagOf(brokers) {
		total += fired[s.kind]
		if fired[s.kind] == 0 {
			faults = append(faults, fmt.Sprintf("no fault %q fired", s.kind))
		}
	}
	if want := atLeast(faultsMin, duration); total < want {
		faults = append(faults, fmt.Sprintf("%d faults fired, want at least %d", total, want))
	}
	if want := atLeast(windowsMin, duration); windows < want {
		faults = append(faults, fmt.Sprintf(
			"the window between Kafka's commit and PostgreSQL's was hit %d times, want at least %d", windows, want))
	}
	return faults
}
