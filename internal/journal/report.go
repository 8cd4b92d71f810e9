package journal

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// findingsShown bounds the findings of each kind that a report describes. All are counted.
const findingsShown = 10

// Report is the result of an audit. All findings must be empty.
type Report struct {
	// Keys counts those in the journal.
	Keys int64 `json:"keys"`
	// Taken counts the keys that got a 202.
	Taken int64 `json:"taken"`
	// Refused counts the keys that were refused, or reached no server.
	Refused int64 `json:"refused"`
	// Unknown counts the keys of unknown outcome: no response, or the client was killed before it.
	Unknown int64 `json:"unknown"`
	// UnknownTaken counts those of them that have a payment.
	UnknownTaken int64 `json:"unknown_taken"`
	// UnknownNotTaken counts those of them that have none.
	UnknownNotTaken int64 `json:"unknown_not_taken"`
	// Torn counts the lines that killed clients left incomplete.
	Torn int `json:"torn"`
	// Records counts those in the topic.
	Records int64 `json:"records"`
	// Others counts the records of payments that are not in the journal.
	Others int64 `json:"others"`
	// Confirmed counts the payments that are in the topic once, where the service reports.
	Confirmed int64 `json:"confirmed"`
	// Unplaced counts those of them for which the service does not show a position. It was not
	// checked whether they are where the database says; `paylatch verify` checks that.
	Unplaced int64 `json:"unplaced"`

	// Lost are payments with a 202 that the service does not have.
	Lost Findings `json:"lost"`
	// Stored are payments of keys that were refused or not sent, and payments of two keys.
	Stored Findings `json:"stored"`
	// Unsent are payments that are not sent after the wait.
	Unsent Findings `json:"unsent"`
	// Missing are payments that are sent and not in the topic.
	Missing Findings `json:"missing"`
	// Duplicates are payments that are in the topic more than once.
	Duplicates Findings `json:"duplicates"`
	// Misplaced are payments that are in the topic, but not where the service reports.
	Misplaced Findings `json:"misplaced"`
	// Hidden are payments that are sent, and that an open transaction hides from consumers.
	Hidden Findings `json:"hidden"`
	// NotJudged are payments whose records the topic's retention has deleted.
	NotJudged Findings `json:"not_judged"`
}

// Findings are the findings of one kind.
type Findings struct {
	Count int64 `json:"count"`
	// First describes the first ones.
	First []string `json:"first,omitempty"`
}

func (f *Findings) add(format string, args ...any) {
	f.Count++
	if len(f.First) < findingsShown {
		f.First = append(f.First, fmt.Sprintf(format, args...))
	}
}

// kind is one kind of findings with its name.
type kind struct {
	name  string
	found Findings
}

func (r *Report) kinds() []kind {
	return []kind{
		{"lost", r.Lost},
		{"stored", r.Stored},
		{"unsent", r.Unsent},
		{"missing", r.Missing},
		{"duplicates", r.Duplicates},
		{"misplaced", r.Misplaced},
		{"hidden", r.Hidden},
		{"not judged", r.NotJudged},
	}
}

// ErrHidden is the fault of an audit whose only findings are payments that an open transaction
// hides.
var ErrHidden = errors.New("an open transaction in the topic hides payments that are sent")

// Fault returns nil if there are no findings, and otherwise counts them.
func (r *Report) Fault() error {
	var parts []string
	for _, k := range r.kinds() {
		if k.found.Count > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", k.name, k.found.Count))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	found := strings.Join(parts, ", ")
	if len(parts) == 1 && r.Hidden.Count > 0 {
		return fmt.Errorf("%w: %s", ErrHidden, found)
	}
	return fmt.Errorf("journal, service and topic contradict each other: %s", found)
}

// Write prints the report.
func (r *Report) Write(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "journal   %d payments: %d taken, %d refused or not sent, %d of unknown outcome",
		r.Keys, r.Taken, r.Refused, r.Unknown)
	if r.Unknown > 0 {
		fmt.Fprintf(&b, " (of these %d were taken, %d were not)", r.UnknownTaken, r.UnknownNotTaken)
	}
	if r.Torn > 0 {
		fmt.Fprintf(&b, "; %d incomplete lines of killed clients", r.Torn)
	}
	fmt.Fprintf(&b, "\ntopic     %d records, %d of them of payments that are not in the journal\n", r.Records, r.Others)
	fmt.Fprintf(&b, "confirmed %d payments are in the topic once, where the service reports\n", r.Confirmed)
	if r.Unplaced > 0 {
		fmt.Fprintf(&b, "unplaced  %d of them: the service does not show positions; paylatch verify compares them\n",
			r.Unplaced)
	}
	var counts []string
	for _, k := range r.kinds() {
		counts = append(counts, fmt.Sprintf("%s %d", k.name, k.found.Count))
	}
	fmt.Fprintf(&b, "findings  %s\n", strings.Join(counts, " · "))
	for _, k := range r.kinds() {
		for _, f := range k.found.First {
			b.WriteString("  " + k.name + ": " + f + "\n")
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
