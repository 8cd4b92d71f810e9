package loadtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/progress"
)

const (
	// errorsShown bounds the errors of different outcomes that a report shows.
	errorsShown = 5
	// unknownShown bounds the keys of unknown outcome that a report lists.
	unknownShown = 20
)

// tally counts for all workers.
type tally struct {
	mu          sync.Mutex
	steps       [][kindCount]work // One for a closed loop.
	timeline    timeline
	sendDelay   latencies
	replays     int64
	retries     int64
	unknownKeys []string
	errors      []string
	// errorOutcomes are the outcomes of the attempts that ended with these errors.
	errorOutcomes []string
}

// work counts one kind of request.
type work struct {
	planned, dropped, skipped int64
	done, failed, unknown     int64
	latencies                 latencies
	responses, firstResponses map[string]int64
}

func newTally(steps int, line timeline) *tally {
	return &tally{steps: make([][kindCount]work, max(steps, 1)), timeline: line}
}

// planned counts a request whose time has come, and how late that was noticed.
func (t *tally) planned(a arrival, now time.Time, delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps[a.step][a.kind].planned++
	t.sendDelay.add(delay)
	t.timeline.at(now.Add(-delay)).Planned++
}

// dropped counts a planned request that found as many in flight as allowed.
func (t *tally) dropped(a arrival, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps[a.step][a.kind].dropped++
	t.timeline.at(now).Dropped++
}

// skipped counts a status request that was planned before there was a payment.
func (t *tally) skipped(step int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps[step][kindStatus].skipped++
}

func (t *tally) create(step int, now time.Time, took time.Duration, replayed bool, outcomes []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &t.steps[step][kindCreate]
	t.count(w, kindCreate, now, took, outcomes, err)
	if replayed {
		t.replays++
	}
	if unknown, ok := errors.AsType[*client.UnknownError](err); ok {
		w.failed--
		w.unknown++
		if len(t.unknownKeys) < unknownShown {
			t.unknownKeys = append(t.unknownKeys, unknown.Key)
		}
	}
}

func (t *tally) status(step int, now time.Time, took time.Duration, outcomes []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(&t.steps[step][kindStatus], kindStatus, now, took, outcomes, err)
}

// visible counts a payment that a consumer has.
func (t *tally) visible(step int, now time.Time, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &t.steps[step][kindEndToEnd]
	w.done++
	w.latencies.add(took)
	t.timeline.measure(kindEndToEnd, now, took)
}

// count measures only what was done: the duration of a failure is that of the client's time-outs.
func (t *tally) count(w *work, k kind, now time.Time, took time.Duration, outcomes []string, err error) {
	t.retries += int64(max(len(outcomes)-1, 0))
	if w.responses == nil {
		w.responses, w.firstResponses = map[string]int64{}, map[string]int64{}
	}
	for i, outcome := range outcomes {
		w.responses[outcome]++
		if i == 0 {
			w.firstResponses[outcome]++
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
	t.keepError(outcomes, err)
}

// keepError keeps the first error of each outcome. The texts name payments and servers, so that
// nearly all differ.
func (t *tally) keepError(outcomes []string, err error) {
	last := ""
	if n := len(outcomes); n > 0 {
		last = outcomes[n-1]
	}
	if len(t.errors) < errorsShown && !slices.Contains(t.errorOutcomes, last) {
		t.errors, t.errorOutcomes = append(t.errors, err.Error()), append(t.errorOutcomes, last)
	}
}

func (w *work) merge(more *work) {
	w.planned += more.planned
	w.dropped += more.dropped
	w.skipped += more.skipped
	w.done += more.done
	w.failed += more.failed
	w.unknown += more.unknown
	w.latencies.merge(&more.latencies)
	if w.responses == nil {
		w.responses, w.firstResponses = map[string]int64{}, map[string]int64{}
	}
	for outcome, n := range more.responses {
		w.responses[outcome] += n
	}
	for outcome, n := range more.firstResponses {
		w.firstResponses[outcome] += n
	}
}

// whole returns one kind of work of all steps.
func (t *tally) whole(k kind) *work {
	var sum work
	for i := range t.steps {
		sum.merge(&t.steps[i][k])
	}
	return &sum
}

// report sums up what all workers did. They have ended.
func (t *tally) report(plan []Step, elapsed time.Duration) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timeline.close()
	create, status, visible := t.whole(kindCreate), t.whole(kindStatus), t.whole(kindEndToEnd)
	r := Report{
		whole:       [kindCount]latencies{create.latencies, status.latencies, visible.latencies},
		Elapsed:     elapsed,
		Create:      create.report(elapsed),
		Status:      status.report(elapsed),
		SendDelay:   t.sendDelay.summary(),
		Replays:     t.replays,
		Retries:     t.retries,
		UnknownKeys: slices.Clone(t.unknownKeys),
		Errors:      slices.Clone(t.errors),
		Interval:    t.timeline.interval,
		Timeline:    t.timeline.points,
	}
	for i, s := range plan {
		took := min(s.For, max(elapsed, 0))
		elapsed -= s.For
		r.Steps = append(r.Steps, StepReport{
			Rate: s.Rate, Took: took, EndToEnd: t.steps[i][kindEndToEnd].latencies.summary(),
			Create: t.steps[i][kindCreate].report(took), Status: t.steps[i][kindStatus].report(took),
		})
	}
	return r
}

func (w *work) report(elapsed time.Duration) Work {
	return Work{
		Planned:        w.planned,
		Dropped:        w.dropped,
		Skipped:        w.skipped,
		Done:           w.done,
		Failed:         w.failed,
		Unknown:        w.unknown,
		PerSecond:      float64(w.done) / max(elapsed.Seconds(), 1e-9),
		Latency:        w.latencies.summary(),
		Responses:      maps.Clone(w.responses),
		FirstResponses: maps.Clone(w.firstResponses),
	}
}

// progress returns the line that shows how far the load is. The length is 0 if it is not known.
func (t *tally) progress(elapsed, length time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var created, read, failed, dropped int64
	for i := range t.steps {
		c, s := &t.steps[i][kindCreate], &t.steps[i][kindStatus]
		created, read = created+c.done, read+s.done
		failed += c.failed + c.unknown + s.failed
		dropped += c.dropped + s.dropped
	}
	bar := progress.Bar(elapsed, length)
	if bar != "" {
		bar += " "
	}
	line := fmt.Sprintf("%s%v: create %d (%.0f/s), status %d (%.0f/s), failed %d", bar, elapsed.Truncate(time.Second),
		created, float64(created)/elapsed.Seconds(), read, float64(read)/elapsed.Seconds(), failed)
	if dropped > 0 {
		line += fmt.Sprintf(", dropped %d", dropped)
	}
	return line
}
