package payclient

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
	Workers     int           `json:"workers"`
	Elapsed     time.Duration `json:"elapsed_ns"`
	Interrupted bool          `json:"interrupted"` // ended by its caller, before duration or count
	Writes      Work          `json:"writes"`
	Reads       Work          `json:"reads"`
	Replays     int64         `json:"replays"` // answers that an earlier attempt had made the payment
	Retries     int64         `json:"retries"`
	UnknownKeys []string      `json:"unknown_keys,omitempty"` // the first of them, to be looked up
	Faults      []string      `json:"faults,omitempty"`       // the first different error texts
}

// Work is one kind of request. Latency is of those done, retries and pauses included; Answers counts attempts.
type Work struct {
	Done      int64            `json:"done"`
	Failed    int64            `json:"failed"`
	Unknown   int64            `json:"unknown"`
	PerSecond float64          `json:"per_second"`
	Latency   Latency          `json:"latency"`
	Answers   map[string]int64 `json:"answers"`
}

// Write prints the report for people.
func (r Report) Write(out io.Writer) error {
	t := newTable("", ">done", ">failed", ">unknown", ">per s", ">p50 ms", ">p90 ms", ">p95 ms", ">p99 ms", ">max ms")
	t.add(r.Writes.cells("writes")...)
	t.add(r.Reads.cells("reads")...)
	if err := t.write(out); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("\n")
	answersLine(&b, "answers to writes", r.Writes.Answers)
	answersLine(&b, "answers to reads", r.Reads.Answers)
	fmt.Fprintf(&b, "%d workers, %.1f s, %d retries, %d replays\n", r.Workers, r.Elapsed.Seconds(), r.Retries, r.Replays)
	if r.Interrupted {
		b.WriteString("interrupted before its end\n")
	}
	for _, key := range r.UnknownKeys {
		b.WriteString("outcome unknown: idempotency key " + key + "\n")
	}
	for _, fault := range r.Faults {
		b.WriteString("fault: " + fault + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (w Work) cells(name string) []string {
	cells := []string{name}
	for _, n := range []int64{w.Done, w.Failed, w.Unknown} {
		cells = append(cells, strconv.FormatInt(n, 10))
	}
	cells = append(cells, strconv.FormatFloat(w.PerSecond, 'f', 1, 64))
	l := w.Latency
	for _, d := range []time.Duration{l.P50, l.P90, l.P95, l.P99, l.Max} {
		if l.Count == 0 {
			cells = append(cells, "-")
			continue
		}
		cells = append(cells, milliseconds(d))
	}
	return cells
}

func answersLine(b *strings.Builder, name string, answers map[string]int64) {
	if len(answers) == 0 {
		return
	}
	var parts []string
	for _, label := range slices.Sorted(maps.Keys(answers)) {
		parts = append(parts, fmt.Sprintf("%s × %d", label, answers[label]))
	}
	b.WriteString(name + ": " + strings.Join(parts, ", ") + "\n")
}
