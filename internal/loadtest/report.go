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

// Report is what a load came to.
type Report struct {
	Mode        string        `json:"mode"`                // open or closed
	Workers     int           `json:"workers,omitempty"`   // closed
	InFlight    int           `json:"in_flight,omitempty"` // open: the bound
	Tenants     int           `json:"tenants"`
	Accounts    int           `json:"accounts"`
	Began       time.Time     `json:"began"`
	Elapsed     time.Duration `json:"elapsed_ns"`
	Interrupted bool          `json:"interrupted"` // ended by its caller, before its end
	Writes      Work          `json:"writes"`
	Reads       Work          `json:"reads"`
	EndToEnd    *EndToEnd     `json:"end_to_end,omitempty"` // absent: not measured
	Steps       []StepReport  `json:"steps,omitempty"`      // open
	Late        Latency       `json:"late"`                 // open: how late the client itself was in sending; it is part of the latencies
	Replays     int64         `json:"replays"`              // answers that an earlier attempt had made the payment
	Retries     int64         `json:"retries"`
	UnknownKeys []string      `json:"unknown_keys,omitempty"` // the first of them, to be looked up
	Faults      []string      `json:"faults,omitempty"`       // the first text of each sort of error
	Verdicts    []Verdict     `json:"slo,omitempty"`
	Interval    time.Duration `json:"interval_ns"`
	Timeline    []Point       `json:"timeline"`

	whole [kinds]latencies
}

// Work is one kind of request. Latency is of those done: from when the request was due in an open load, from when it was sent in a closed loop, retries
// and pauses included; Answers counts attempts.
type Work struct {
	Planned   int64            `json:"planned,omitempty"`    // open: was due
	NoPlace   int64            `json:"no_place,omitempty"`   // open: due and not sent, since as many were under way as may be
	NoPayment int64            `json:"no_payment,omitempty"` // open: a read that was due before there was a payment to be read
	Done      int64            `json:"done"`
	Failed    int64            `json:"failed"`
	Unknown   int64            `json:"unknown"`
	PerSecond float64          `json:"per_second"`
	Latency   Latency          `json:"latency"`
	Answers   map[string]int64 `json:"answers"`
	First     map[string]int64 `json:"first_answers"` // the same of each request's first attempt alone
}

// StepReport is one step of an open load.
type StepReport struct {
	Rate     float64       `json:"rate"` // payments per second, as planned
	Took     time.Duration `json:"took_ns"`
	Writes   Work          `json:"writes"`
	Reads    Work          `json:"reads"`
	EndToEnd Latency       `json:"end_to_end"`
}

// describe says what the load was.
func (r *Report) describe(l *load) {
	r.Mode, r.Workers = "closed", l.cfg.Workers
	if len(l.cfg.Steps) > 0 {
		r.Mode, r.Workers, r.InFlight = "open", 0, l.cfg.InFlight
	}
	r.Began, r.Tenants, r.Accounts = l.start.UTC(), len(l.inTurn), l.cfg.Accounts
	if r.Accounts == 0 {
		r.Accounts = populationDefault
	}
}

// Failed tells what did not go as planned in one line; "" is nothing.
func (r Report) Failed() string {
	var parts []string
	for _, c := range []struct {
		n    int64
		what string
	}{
		{r.Writes.Failed, "writes failed"},
		{r.Reads.Failed, "reads failed"},
		{r.Writes.NoPlace + r.Reads.NoPlace, "requests found no place and were not sent"},
	} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if e := r.EndToEnd; e != nil && e.Missing > 0 {
		parts = append(parts, fmt.Sprintf("%d payments did not become visible in %s within %v after the load", e.Missing, e.Topic, e.Waited.Round(time.Millisecond)))
	}
	if e := r.EndToEnd; e != nil && len(e.Faults) > 0 {
		parts = append(parts, "reading the topic failed: "+e.Faults[0])
	}
	return strings.Join(parts, ", ")
}

// Write prints the report for people.
func (r Report) Write(out io.Writer) error {
	if err := r.table().write(out); err != nil {
		return err
	}
	text := append([]string{""}, r.words()...)
	for _, v := range r.Verdicts {
		word := "met"
		if !v.Met {
			word = "MISSED"
		}
		text = append(text, fmt.Sprintf("SLO %s: %v", word, v))
	}
	_, err := io.WriteString(out, strings.Join(text, "\n")+"\n")
	return err
}

// words are the lines under the table.
func (r Report) words() []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	answersLine(say, "answers to writes", r.Writes.Answers)
	answersLine(say, "answers to reads", r.Reads.Answers)
	say("%s", r.setting())
	if r.Mode == "open" {
		say("latencies count from when a request was due; the client itself was late by p50 %s, p99 %s, max %s ms",
			fineMilliseconds(r.Late.P50), fineMilliseconds(r.Late.P99), fineMilliseconds(r.Late.Max))
	}
	if n := r.Writes.NoPlace + r.Reads.NoPlace; n > 0 {
		say("%d requests were due while %d were under way, and were not sent", n, r.InFlight)
	}
	if r.Reads.NoPayment > 0 {
		say("%d reads were due before there was a payment to be read, and were not sent", r.Reads.NoPayment)
	}
	r.sayEndToEnd(say)
	if r.Interrupted {
		say("interrupted before its end")
	}
	for _, key := range r.UnknownKeys {
		say("outcome unknown: idempotency key %s", key)
	}
	for _, fault := range r.Faults {
		say("fault: %s", fault)
	}
	return lines
}

func (r Report) sayEndToEnd(say func(string, ...any)) {
	e := r.EndToEnd
	if e == nil {
		say("end to end: not measured (no --kafka-brokers)")
		return
	}
	began := "sent"
	if r.Mode == "open" {
		began = "due"
	}
	say("end to end: from when a POST was %s until a read_committed consumer of %s had it; waited %.1f s for the last ones, %d never came",
		began, e.Topic, e.Waited.Seconds(), e.Missing)
	if e.NotFollowed > 0 {
		say("end to end: %d payments were not followed, since %d were awaited already", e.NotFollowed, awaitedMax)
	}
	for _, id := range e.MissingIDs {
		say("never came: payment %s", id)
	}
	for _, fault := range e.Faults {
		say("fault of the topic: %s", fault)
	}
}

// setting says in a line what the load was.
func (r Report) setting() string {
	how := fmt.Sprintf("%d workers", r.Workers)
	if r.Mode == "open" {
		how = fmt.Sprintf("open load, at most %d requests under way", r.InFlight)
	}
	tenants := "1 tenant"
	if r.Tenants != 1 {
		tenants = strconv.Itoa(r.Tenants) + " tenants"
	}
	return fmt.Sprintf("%s, %s, %d accounts, %.1f s, %d retries, %d replays", how, tenants, r.Accounts, r.Elapsed.Seconds(), r.Retries, r.Replays)
}

func (r Report) table() *table {
	t := newTable("", ">planned", ">done", ">failed", ">unknown", ">no place", ">per s", ">p50 ms", ">p90 ms", ">p95 ms", ">p99 ms", ">p99.9 ms", ">max ms")
	if len(r.Steps) > 1 {
		for _, s := range r.Steps {
			name := strconv.FormatFloat(s.Rate, 'g', 4, 64) + "/s "
			t.add(s.Writes.cells(name + creates.title())...)
			t.add(s.Reads.cells(name + statuses.title())...)
			if r.EndToEnd != nil {
				t.add(latencyCells(name+endToEnd.title(), s.EndToEnd, "-", "-")...)
			}
		}
	}
	t.add(r.Writes.cells(creates.title())...)
	t.add(r.Reads.cells(statuses.title())...)
	if e := r.EndToEnd; e != nil {
		t.add(latencyCells(endToEnd.title(), e.Latency, strconv.FormatInt(e.Missing, 10), "-")...)
	}
	return t
}

func (w Work) cells(name string) []string {
	counts := []string{"-", "", "", "", "-", strconv.FormatFloat(w.PerSecond, 'f', 1, 64)}
	if w.Planned > 0 {
		counts[0], counts[4] = strconv.FormatInt(w.Planned, 10), strconv.FormatInt(w.NoPlace, 10)
	}
	for i, n := range []int64{w.Done, w.Failed, w.Unknown} {
		counts[1+i] = strconv.FormatInt(n, 10)
	}
	return append(append([]string{name}, counts...), w.Latency.cells()...)
}

func latencyCells(name string, l Latency, failed, perSecond string) []string {
	return append([]string{name, "-", strconv.FormatInt(l.Count, 10), failed, "-", "-", perSecond}, l.cells()...)
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

func answersLine(say func(string, ...any), name string, answers map[string]int64) {
	if len(answers) == 0 {
		return
	}
	var parts []string
	for _, label := range slices.Sorted(maps.Keys(answers)) {
		parts = append(parts, fmt.Sprintf("%s × %d", label, answers[label]))
	}
	say("%s: %s", name, strings.Join(parts, ", "))
}
