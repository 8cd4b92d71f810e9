package loadtest

import (
	"math"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// latencyLeast is what is told apart at the low end: HTTP over loopback takes tens of microseconds.
	latencyLeast = time.Microsecond
	// latencyMost is longer than any call with all its retries; what takes longer counts as this, but for the maximum.
	latencyMost = 10 * time.Minute
	// latencyDigits makes a value exact to 0.1 %, in 180 KB however many there are.
	latencyDigits = 3
)

// latencies collects durations in bounded memory. The zero value is ready; it is not safe for concurrent use.
type latencies struct {
	count     int64
	longest   time.Duration
	histogram *hdrhistogram.Histogram // nil: nothing yet
}

func (l *latencies) room() {
	if l.histogram == nil {
		l.histogram = hdrhistogram.New(int64(latencyLeast), int64(latencyMost), latencyDigits)
	}
}

func (l *latencies) add(d time.Duration) {
	l.room()
	l.count++
	l.longest = max(l.longest, d)
	// It can only complain of what is out of its range, and nothing is.
	_ = l.histogram.RecordValue(int64(min(max(d, 0), latencyMost)))
}

func (l *latencies) merge(more *latencies) {
	if more.count == 0 {
		return
	}
	l.room()
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

// at is the smallest value that p of a hundred do not exceed, up to the histogram's precision and never above the maximum.
func (l *latencies) at(p float64) time.Duration {
	if l.count == 0 {
		return 0
	}
	return min(time.Duration(l.histogram.ValueAtPercentile(p)), l.longest)
}

// Latency sums up durations. The fields count in nanoseconds where they are written as JSON. The maximum is exact, the others to 0.1 %.
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

// milliseconds has one decimal: enough for a person who watches payments go.
func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64)
}

// fineMilliseconds has two: below a hundredth of a millisecond there is only noise over HTTP.
func fineMilliseconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1000, 'f', 2, 64)
}

// curvePoint is one point of a percentile curve.
type curvePoint struct {
	rarity float64 // 1 in so many takes longer: 10 at the 90th percentile
	took   time.Duration
}

// curve has the percentiles from the half of all to the one in so many as there are, evenly spaced in rarity's logarithm.
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
