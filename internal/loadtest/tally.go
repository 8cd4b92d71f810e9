package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/paylatch/paylatch/client"
)

const (
	// faultsKept is how many sorts of errors a report shows.
	faultsKept = 5
	// unknownKept is how many keys of unknown outcome a report lists, to be looked up.
	unknownKept = 20
)

// tally counts for all workers.
type tally struct {
	mu       sync.Mutex
	steps    [][kinds]work // one for a closed loop
	timeline timeline
	late     latencies // how late the client itself was
	replays  int64
	retries  int64
	unknown  []string
	faults   []string

	faultSorts []string // of faults, as the answers are named
}

// work is what is counted of one kind of request.
type work struct {
	planned, noPlace, noPayment int64
	done, failed, unknown       int64
	latencies                   latencies
	answers, first              map[string]int64
}

func newTally(steps int, line timeline) *tally {
	return &tally{steps: make([][kinds]work, max(steps, 1)), timeline: line}
}

// due counts a request that is to be sent now, and how late the client is with it.
func (t *tally) due(a arrival, now time.Time, late time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps[a.step][a.kind].planned++
	t.late.add(late)
	t.timeline.at(now.Add(-late)).Planned++
}

// noPlace counts a request that was due and found as many under way as may be.
func (t *tally) noPlace(a arrival, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps[a.step][a.kind].noPlace++
	t.timeline.at(now).NoPlace++
}

// noPayment counts a read that was due before there was a payment to be read.
func (t *tally) noPayment(step int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps[step][statuses].noPayment++
}

func (t *tally) write(step int, now time.Time, took time.Duration, replayed bool, outcomes []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &t.steps[step][creates]
	t.count(w, creates, now, took, outcomes, err)
	if replayed {
		t.replays++
	}
	if lost, ok := errors.AsType[*client.UnknownError](err); ok {
		w.failed--
		w.unknown++
		if len(t.unknown) < unknownKept {
			t.unknown = append(t.unknown, lost.Key)
		}
	}
}

func (t *tally) read(step int, now time.Time, took time.Duration, outcomes []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(&t.steps[step][statuses], statuses, now, took, outcomes, err)
}

// visible counts a payment that a consumer has seen.
func (t *tally) visible(step int, now time.Time, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &t.steps[step][endToEnd]
	w.done++
	w.latencies.add(took)
	t.timeline.measure(endToEnd, now, took)
}

// count takes the duration of what was done only: how long a failure took says how patient the client is.
func (t *tally) count(w *work, k kind, now time.Time, took time.Duration, outcomes []string, err error) {
	t.retries += int64(max(len(outcomes)-1, 0))
	if w.answers == nil {
		w.answers, w.first = map[string]int64{}, map[string]int64{}
	}
	for i, label := range outcomes {
		w.answers[label]++
		if i == 0 {
			w.first[label]++
		}
	}
	if err == nil {
		w.done++
		w.latencies.add(took)
		t.timeline.measure(k, now, took)
		t.timeline.at(now).Done++
		return
	}
	w.failed++
	t.timeline.at(now).Failed++
	t.fault(outcomes, err)
}

// fault keeps the first text of each sort of error: texts name payments and servers, and would differ without end.
func (t *tally) fault(outcomes []string, err error) {
	sort := "" // No request was tried.
	if n := len(outcomes); n > 0 {
		sort = outcomes[n-1]
	}
	if len(t.faults) < faultsKept && !slices.Contains(t.faultSorts, sort) {
		t.faults, t.faultSorts = append(t.faults, err.Error()), append(t.faultSorts, sort)
	}
}

func (w *work) merge(more *work) {
	w.planned += more.planned
	w.noPlace += more.noPlace
	w.noPayment += more.noPayment
	w.done += more.done
	w.failed += more.failed
	w.unknown += more.unknown
	w.latencies.merge(&more.latencies)
	if w.answers == nil {
		w.answers, w.first = map[string]int64{}, map[string]int64{}
	}
	for label, n := range more.answers {
		w.answers[label] += n
	}
	for label, n := range more.first {
		w.first[label] += n
	}
}

// whole is one kind of work of all steps.
func (t *tally) whole(k kind) *work {
	var sum work
	for i := range t.steps {
		sum.merge(&t.steps[i][k])
	}
	return &sum
}

// report sums up what all workers did, who have ended. A step that took no time yet has no rates.
func (t *tally) report(plan []Step, elapsed time.Duration) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timeline.close()
	writes, reads, visible := t.whole(creates), t.whole(statuses), t.whole(endToEnd)
	r := Report{
		whole:       [kinds]latencies{writes.latencies, reads.latencies, visible.latencies},
		Elapsed:     elapsed,
		Writes:      writes.report(elapsed),
		Reads:       reads.report(elapsed),
		Late:        t.late.summary(),
		Replays:     t.replays,
		Retries:     t.retries,
		UnknownKeys: slices.Clone(t.unknown),
		Faults:      slices.Clone(t.faults),
		Interval:    t.timeline.interval,
		Timeline:    t.timeline.points,
	}
	for i, s := range plan {
		took := min(s.For, max(elapsed, 0))
		elapsed -= s.For
		r.Steps = append(r.Steps, StepReport{
			Rate: s.Rate, Took: took, EndToEnd: t.steps[i][endToEnd].latencies.summary(),
			Writes: t.steps[i][creates].report(took), Reads: t.steps[i][statuses].report(took),
		})
	}
	return r
}

func (w *work) report(elapsed time.Duration) Work {
	return Work{
		Planned:   w.planned,
		NoPlace:   w.noPlace,
		NoPayment: w.noPayment,
		Done:      w.done,
		Failed:    w.failed,
		Unknown:   w.unknown,
		PerSecond: float64(w.done) / max(elapsed.Seconds(), 1e-9),
		Latency:   w.latencies.summary(),
		Answers:   maps.Clone(w.answers),
		First:     maps.Clone(w.first),
	}
}

// show keeps one line of a terminal up to date, and wipes it in the end: the report says it all. Our own line: a progress bar's library would bring
// three modules for what these few lines do, and knows nothing of rates and failures.
func (t *tally) show(ctx context.Context, terminal io.Writer, start time.Time, length time.Duration) {
	if terminal == nil {
		return
	}
	const wipe = "\r\x1b[K"
	for sleep(ctx, progressEvery) == nil {
		fmt.Fprint(terminal, wipe+t.progress(time.Since(start), length))
	}
	fmt.Fprint(terminal, wipe)
}

// progress is that line. The length is 0 where it is not known.
func (t *tally) progress(elapsed, length time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var writes, reads, bad, noPlace int64
	for i := range t.steps {
		w, r := &t.steps[i][creates], &t.steps[i][statuses]
		writes, reads = writes+w.done, reads+r.done
		bad += w.failed + w.unknown + r.failed
		noPlace += w.noPlace + r.noPlace
	}
	var bar string
	if length > 0 {
		const width = 20
		full := min(int(width*elapsed/length), width)
		bar = "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "] "
	}
	line := fmt.Sprintf("%s%v: %d payments (%.0f/s), %d reads (%.0f/s), %d failed", bar, elapsed.Truncate(time.Second),
		writes, float64(writes)/elapsed.Seconds(), reads, float64(reads)/elapsed.Seconds(), bad)
	if noPlace > 0 {
		line += fmt.Sprintf(", %d without a place", noPlace)
	}
	return line
}
