package payclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// faultsKept is how many different error texts a report shows.
	faultsKept = 5
	// unknownKept is how many keys of unknown outcome a report lists, to be looked up.
	unknownKept = 20
)

// tally counts for all workers.
type tally struct {
	mu      sync.Mutex
	writes  work
	reads   work
	replays int64
	retries int64
	unknown []string
	faults  []string
}

// work is what is counted of writes and of reads alike.
type work struct {
	done, failed, unknown int64
	latencies             latencies
	answers               map[string]int64
}

func newTally() *tally {
	return &tally{writes: work{answers: map[string]int64{}}, reads: work{answers: map[string]int64{}}}
}

func (t *tally) write(a Answer, tr trail, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(&t.writes, a.Took, tr, err)
	if a.Replayed {
		t.replays++
	}
	if lost, ok := errors.AsType[*UnknownError](err); ok {
		t.writes.failed--
		t.writes.unknown++
		if len(t.unknown) < unknownKept {
			t.unknown = append(t.unknown, lost.Key)
		}
	}
}

func (t *tally) read(took time.Duration, tr trail, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(&t.reads, took, tr, err)
}

// count takes the duration of what was done only: how long a failure took says how patient the client is.
func (t *tally) count(w *work, took time.Duration, tr trail, err error) {
	t.retries += int64(max(tr.attempts-1, 0))
	for _, label := range tr.answers {
		w.answers[label]++
	}
	if err == nil {
		w.done++
		w.latencies.add(took)
		return
	}
	w.failed++
	if text := err.Error(); len(t.faults) < faultsKept && !slices.Contains(t.faults, text) {
		t.faults = append(t.faults, text)
	}
}

func (t *tally) report(workers int, elapsed time.Duration) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Report{
		Workers:     workers,
		Elapsed:     elapsed,
		Writes:      t.writes.report(elapsed),
		Reads:       t.reads.report(elapsed),
		Replays:     t.replays,
		Retries:     t.retries,
		UnknownKeys: slices.Clone(t.unknown),
		Faults:      slices.Clone(t.faults),
	}
}

func (w *work) report(elapsed time.Duration) Work {
	return Work{
		Done:      w.done,
		Failed:    w.failed,
		Unknown:   w.unknown,
		PerSecond: float64(w.done) / max(elapsed.Seconds(), 1e-9),
		Latency:   w.latencies.summary(),
		Answers:   maps.Clone(w.answers),
	}
}

// show keeps one line of a terminal up to date, and wipes it in the end: the report says it all.
func (t *tally) show(ctx context.Context, terminal io.Writer, start time.Time) {
	if terminal == nil {
		return
	}
	const wipe = "\r\x1b[K"
	for sleep(ctx, progressEvery) == nil {
		t.mu.Lock()
		writes, reads := t.writes.done, t.reads.done
		bad := t.writes.failed + t.writes.unknown + t.reads.failed
		t.mu.Unlock()
		elapsed := time.Since(start)
		fmt.Fprintf(terminal, "%s%v: %d payments (%.0f/s), %d reads (%.0f/s), %d failed", wipe, elapsed.Truncate(time.Second),
			writes, float64(writes)/elapsed.Seconds(), reads, float64(reads)/elapsed.Seconds(), bad)
	}
	fmt.Fprint(terminal, wipe)
}
