package payclient

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// samplesMax is how many durations are kept. Up to so many, percentiles are exact; beyond, they come from an even
// sample of all, which at p99 still rests on a thousand values. The maximum is always exact.
const samplesMax = 100_000

// latencies collects durations in bounded memory. The zero value is ready; it is not safe for concurrent use.
type latencies struct {
	count   int64
	longest time.Duration
	kept    []time.Duration
}

// add keeps each duration with the same probability, however many there will be (Vitter's algorithm R).
func (l *latencies) add(d time.Duration) {
	l.count++
	l.longest = max(l.longest, d)
	if len(l.kept) < samplesMax {
		l.kept = append(l.kept, d)
		return
	}
	if i := rand.Int64N(l.count); i < samplesMax {
		l.kept[i] = d
	}
}

// Latency sums up durations. The fields count in nanoseconds where they are written as JSON.
type Latency struct {
	Count int64         `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P95   time.Duration `json:"p95_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

func (l *latencies) summary() Latency {
	sorted := slices.Clone(l.kept)
	slices.Sort(sorted)
	return Latency{
		Count: l.count,
		P50:   percentile(sorted, 50),
		P90:   percentile(sorted, 90),
		P95:   percentile(sorted, 95),
		P99:   percentile(sorted, 99),
		Max:   l.longest,
	}
}

// percentile is the nearest rank: the smallest value that p of a hundred do not exceed. It never makes up a value
// between two that were measured.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(float64(len(sorted)*p) / 100))
	return sorted[max(rank, 1)-1]
}

// milliseconds has one decimal: what is below a tenth of a millisecond is noise over HTTP.
func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64)
}
