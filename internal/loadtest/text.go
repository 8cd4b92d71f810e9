package loadtest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Write prints the report as text.
func (r Report) Write(out io.Writer) error {
	if err := r.table().write(out); err != nil {
		return err
	}
	lines := append(list{""}, r.notes()...)
	for _, f := range r.facts() {
		lines.add("%s: %s", f.Name, f.Value)
	}
	for _, v := range r.Verdicts {
		lines.add("SLO %s: %v", v.word(), v)
	}
	_, err := io.WriteString(out, lines.join("\n")+"\n")
	return err
}

// fact is one thing about a run with its name.
type fact struct{ Name, Value string }

// facts are what was run, and what the audit found.
func (r Report) facts() []fact {
	facts := []fact{{"load", r.setting()}}
	if len(r.Servers) > 0 {
		facts = append(facts, fact{"server", strings.Join(r.Servers, ", ")})
	}
	if r.Command != "" {
		facts = append(facts, fact{"command", r.Command})
	}
	if r.Version != "" {
		facts = append(facts, fact{"version", r.Version})
	}
	return append(facts, fact{"audit", r.auditResult()})
}

func (r Report) auditResult() string {
	switch {
	case r.AuditError != "":
		return "not possible: " + r.AuditError
	case r.Audit == nil:
		return "not made"
	}
	confirmed := fmt.Sprintf("%d of %d payments confirmed", r.Audit.Confirmed, r.Audit.Keys)
	if err := r.Audit.Fault(); err != nil {
		return err.Error() + "; " + confirmed
	}
	return "passed, " + confirmed
}

// notes are what the table does not show.
func (r Report) notes() list {
	var notes list
	notes.addResponses("responses to create", r.Create.Responses)
	notes.addResponses("responses to status", r.Status.Responses)
	notes.add("retries %d, replays %d", r.Retries, r.Replays)
	if r.Mode == "open" {
		notes.add("latencies count from the planned time, and so include the send delay: p50 %s, p99 %s, max %s ms",
			fineMilliseconds(r.SendDelay.P50), fineMilliseconds(r.SendDelay.P99), fineMilliseconds(r.SendDelay.Max))
	}
	if n := r.dropped(); n > 0 {
		notes.add("dropped: %d requests were planned while %d were in flight, and not sent", n, r.InFlight)
	}
	if n := r.Status.Skipped; n > 0 {
		notes.add("skipped: %d status requests were planned before there was a payment, and not sent", n)
	}
	notes = append(notes, r.endToEndNotes()...)
	if r.Interrupted {
		notes.add("interrupted before its end")
	}
	for _, key := range r.UnknownKeys {
		notes.add("unknown: idempotency key %s", key)
	}
	for _, text := range r.Errors {
		notes.add("error: %s", text)
	}
	return notes
}

func (r Report) endToEndNotes() list {
	var notes list
	e := r.EndToEnd
	if e == nil {
		notes.add("end to end: not measured (no --kafka-brokers)")
		return notes
	}
	began := "sent"
	if r.Mode == "open" {
		began = "planned"
	}
	notes.add("end to end: from when a POST was %s until a read_committed consumer of %s had the payment; "+
		"missing %d after a wait of %.1f s", began, e.Topic, e.Missing, e.Waited.Seconds())
	if e.Untracked > 0 {
		notes.add("untracked: %d payments, since %d others were awaited", e.Untracked, awaitedMax)
	}
	for _, id := range e.MissingIDs {
		notes.add("missing: payment %s", id)
	}
	for _, text := range e.Errors {
		notes.add("error of the topic: %s", text)
	}
	return notes
}

func (r Report) table() *table {
	t := newTable("", ">planned", ">done", ">failed", ">unknown", ">dropped", ">per s",
		">p50 ms", ">p90 ms", ">p95 ms", ">p99 ms", ">p99.9 ms", ">max ms")
	if len(r.Steps) > 1 {
		for _, s := range r.Steps {
			name := strconv.FormatFloat(s.Rate, 'g', 4, 64) + "/s "
			t.add(s.Create.cells(name + kindCreate.title())...)
			t.add(s.Status.cells(name + kindStatus.title())...)
			if r.EndToEnd != nil {
				t.add(latencyCells(name+kindEndToEnd.title(), s.EndToEnd, "-")...)
			}
		}
	}
	t.add(r.Create.cells(kindCreate.title())...)
	t.add(r.Status.cells(kindStatus.title())...)
	if e := r.EndToEnd; e != nil {
		t.add(latencyCells(kindEndToEnd.title(), e.Latency, strconv.FormatInt(e.Missing, 10))...)
	}
	return t
}

func (w Work) cells(name string) []string {
	planned, dropped := "-", "-"
	if w.Planned > 0 {
		planned, dropped = strconv.FormatInt(w.Planned, 10), strconv.FormatInt(w.Dropped, 10)
	}
	cells := []string{
		name, planned, strconv.FormatInt(w.Done, 10), strconv.FormatInt(w.Failed, 10),
		strconv.FormatInt(w.Unknown, 10), dropped, strconv.FormatFloat(w.PerSecond, 'f', 1, 64),
	}
	return append(cells, w.Latency.cells()...)
}

func latencyCells(name string, l Latency, failed string) []string {
	return append([]string{name, "-", strconv.FormatInt(l.Count, 10), failed, "-", "-", "-"}, l.cells()...)
}

func (l Latency) cells() (cells []string) {
	for _, d := range []time.Duration{l.P50, l.P90, l.P95, l.P99, l.P999, l.Max} {
		if l.Count == 0 {
			cells = append(cells, "-")
			continue
		}
		cells = append(cells, fineMilliseconds(d))
	}
	return cells
}

// list is a list of texts.
type list []string

func (l *list) add(format string, args ...any) { *l = append(*l, fmt.Sprintf(format, args...)) }

// addCount adds a text with its count, unless that is 0.
func (l *list) addCount(n int64, format string) {
	if n > 0 {
		l.add(format, n)
	}
}

func (l *list) addResponses(name string, responses map[string]int64) {
	if len(responses) == 0 {
		return
	}
	var parts list
	for _, outcome := range slices.Sorted(maps.Keys(responses)) {
		parts.add("%s × %d", outcome, responses[outcome])
	}
	l.add("%s: %s", name, parts.join(", "))
}

func (l list) join(separator string) string { return strings.Join(l, separator) }
