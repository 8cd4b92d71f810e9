package payclient

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// AuditReport is what an audit found. All findings must be empty.
type AuditReport struct {
	Keys            int64 `json:"keys"`              // in the journal
	Taken           int64 `json:"taken"`             // answered 202
	Refused         int64 `json:"refused"`           // refused, or not sent
	Unknown         int64 `json:"unknown"`           // of unknown outcome: no answer, or the client was killed before it came
	UnknownTaken    int64 `json:"unknown_taken"`     // of these, turned out to be taken
	UnknownNotTaken int64 `json:"unknown_not_taken"` // of these, turned out not to be
	Torn            int   `json:"torn"`              // half-written lines of killed clients
	Records         int64 `json:"records"`           // in the topic
	Others          int64 `json:"others"`            // of these, of no payment in the journal
	Confirmed       int64 `json:"confirmed"`         // payments that are in the topic where the service says

	Lost       Findings `json:"lost"`       // answered 202, and not on record
	Stored     Findings `json:"stored"`     // refused or not sent, and on record; or on record for two keys
	Unsent     Findings `json:"unsent"`     // on record, and not sent after the wait
	Missing    Findings `json:"missing"`    // sent, and not in the topic
	Duplicates Findings `json:"duplicates"` // in the topic more than once
	Misplaced  Findings `json:"misplaced"`  // in the topic, but not where the service says
	Undecided  Findings `json:"undecided"`  // sent, and hidden from consumers by an open transaction
	NotJudged  Findings `json:"not_judged"` // sent to where the topic's retention has deleted
}

// Findings are of one kind.
type Findings struct {
	Count int64    `json:"count"`
	First []string `json:"first,omitempty"`
}

func (f *Findings) add(format string, args ...any) {
	f.Count++
	if len(f.First) < findingsKept {
		f.First = append(f.First, fmt.Sprintf(format, args...))
	}
}

// kinds are all findings with their names.
func (r *AuditReport) kinds() []struct {
	name  string
	found Findings
} {
	return []struct {
		name  string
		found Findings
	}{
		{"lost", r.Lost},
		{"stored", r.Stored},
		{"unsent", r.Unsent},
		{"missing", r.Missing},
		{"duplicates", r.Duplicates},
		{"misplaced", r.Misplaced},
		{"undecided", r.Undecided},
		{"not judged", r.NotJudged},
	}
}

// ErrUndecided is what an audit ends with if it finds nothing but payments that an open transaction hides.
var ErrUndecided = errors.New("an open transaction in the topic hides payments that are sent")

// Fault is nil when all holds, and says otherwise what does not.
func (r *AuditReport) Fault() error {
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
	if len(parts) == 1 && r.Undecided.Count > 0 {
		return fmt.Errorf("%w: %s", ErrUndecided, found)
	}
	return fmt.Errorf("the journal, the service and the topic do not agree: %s", found)
}

// Write prints the report for people.
func (r *AuditReport) Write(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "journal   %d payments: %d taken, %d refused or not sent, %d of unknown outcome", r.Keys, r.Taken, r.Refused, r.Unknown)
	if r.Unknown > 0 {
		fmt.Fprintf(&b, " (%d turned out taken, %d not taken)", r.UnknownTaken, r.UnknownNotTaken)
	}
	if r.Torn > 0 {
		fmt.Fprintf(&b, "; %d lines half-written by killed clients", r.Torn)
	}
	fmt.Fprintf(&b, "\ntopic     %d records, %d of them of payments that the journal does not know\n", r.Records, r.Others)
	fmt.Fprintf(&b, "confirmed %d payments are in the topic once, where the service says\n", r.Confirmed)
	b.WriteString("findings ")
	for _, k := range r.kinds() {
		fmt.Fprintf(&b, " %s %d ·", k.name, k.found.Count)
	}
	text := strings.TrimSuffix(b.String(), " ·") + "\n"
	for _, k := range r.kinds() {
		for _, f := range k.found.First {
			text += "  " + k.name + ": " + f + "\n"
		}
	}
	_, err := io.WriteString(out, text)
	return err
}
