package loadtest

import (
	"math"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// latencyLeast is the resolution at the low end: HTTP over loopback takes tens of microseconds.
	latencyLeast = time.Microsecond
	// latencyMost is longer than any call with all its retries. A longer one counts as this, except
	// as the maximum.
	latencyMost = 10 * time.Minute
	// latencyDigits makes a value exact to 0.1 %. A histogram has 180 KB.
	latencyDigits = 3
)

// latencies collects durations in bounded memory. Its zero value is ready to use. It is not safe
// for concurrent use.
type latencies struct {
	count   int64
	longest time.Duration
	// histogram is nil while nothing was added.
	histogram *hdrhistogram.Histogram
}

func (l *latencies) prepare() {
	if l.histogram == nil {
		l.histogram = hdrhistogram.New(int64(latencyLeast), int64(latencyMost), latencyDigits)
	}
}

func (l *latencies) add(d time.Duration) {
	l.prepare()
	l.count++
	l.longest = max(l.longest, d)
	// The only error is a value out of its range.
	_ = l.histogram.RecordValue(int64(min(max(d, 0), latencyMost)))
}

func (l *latencies) merge(more *latencies) {
	if more.count == 0 {
		return
	}
	l.prepare()
	l.count += more.count
	l.longest = max(l.longest, more.longest)
	l.histogram.Merge(more.histogram)
}

func (l *latencies) reset() {
	if l.count > 0 {
		l.count, l.longest = 0, 0
		l.histogram.Reset()
	}
}

// at returns the smallest value that p percent do not exceed, to the precision of the histogram. It
// is never above the maximum.
func (l *latencies) at(p float64) time.Duration {
	if l.count == 0 {
		return 0
	}
	return min(time.Duration(l.histogram.ValueAtPercentile(p)), l.longest)
}

// Latency sums up durations. The maximum is exact, the percentiles to 0.1 %.
type Latency struct {
	Count int64         `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P95   time.Duration `json:"p95_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p99_9_ns"`
	Max   time.Duration `json:"max_ns"`
}

func (l *latencies) summary() Latency {
	return Latency{
		Count: l.count,
		P50:   l.at(50),
		P90:   l.at(90),
		P95:   l.at(95),
		P99:   l.at(99),
		P999:  l.at(99.9),
		Max:   l.longest,
	}
}

// milliseconds returns one decimal.
func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64)
}

// fineMilliseconds returns two decimals: over HTTP, less is noise.
func fineMilliseconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1000, 'f', 2, 64)
}

// curvePoint is one point of a percentile curve.
type curvePoint struct {
	// rarity is 10 at the 90th percentile: one in ten takes longer.
	rarity float64
	took   time.Duration
}

// curve returns percentiles from the median to the maximum, evenly spaced in the logarithm of
// rarity.
func (l *latencies) curve() []curvePoint {
	const perDecade = 10
	var points []curvePoint
	for i := 0; l.count > 0; i++ {
		rarity := 2 * math.Pow(10, float64(i)/perDecade)
		if rarity >= float64(l.count) || rarity > 1e6 {
			return append(points, curvePoint{float64(max(l.count, 1)), l.longest})
		}
		points = append(points, curvePoint{rarity, l.at(100 - 100/rarity)})
	}
	return nil
}
