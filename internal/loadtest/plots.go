package loadtest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// classes are the names that the page has for the colours of the kinds.
var classes = [kindCount]string{"create", "status", "endtoend"}

// curvePlot shows the distributions: rare requests are to the right, slow ones at the top. Both
// axes are logarithmic.
func (r Report) curvePlot() string {
	var curves [kindCount][]curvePoint
	x, y := axis{2, 100, true}, axis{math.Inf(1), 0, true}
	for k := range kindCount {
		curves[k] = r.whole[k].curve()
		for _, c := range curves[k] {
			x.to = max(x.to, c.rarity)
			y.from, y.to = min(y.from, millis(c.took)), max(y.to, millis(c.took))
		}
	}
	if y.to == 0 {
		return ""
	}
	y = widen(y)
	names := map[float64]string{
		2: "p50", 10: "p90", 20: "p95", 100: "p99", 1000: "p99.9", 1e4: "p99.99", 1e5: "p99.999", 1e6: "p99.9999",
	}
	var ticks []float64
	for _, v := range []float64{2, 10, 20, 100, 1000, 1e4, 1e5, 1e6} {
		if v <= x.to {
			ticks = append(ticks, v)
		}
	}
	p := newPlot("Latency by percentile", x, y, ticks, func(v float64) string { return names[v] }, number)
	for k := range kindCount {
		var points []point
		for _, c := range curves[k] {
			points = append(points, point{max(c.rarity, x.from), millis(c.took)})
		}
		p.line(classes[k], points)
	}
	return p.String()
}

// latencyPlot shows the latencies of one kind over time, by when the requests ended.
func (r Report) latencyPlot(k kind) string {
	y := axis{math.Inf(1), 0, true}
	var p50, p99, most []point
	for _, at := range r.Timeline {
		l, middle := at.latency(k), (at.At + r.Interval/2).Seconds()
		if l.Count == 0 {
			for _, points := range []*[]point{&p50, &p99, &most} {
				*points = append(*points, point{middle, math.NaN()})
			}
			continue
		}
		p50 = append(p50, point{middle, millis(l.P50)})
		p99 = append(p99, point{middle, millis(l.P99)})
		most = append(most, point{middle, millis(l.Max)})
		y.from, y.to = min(y.from, millis(l.P50)), max(y.to, millis(l.Max))
	}
	if y.to == 0 {
		return ""
	}
	p := r.timePlot(k.title()+": latency over time", widen(y), number)
	p.dots(classes[k]+" max", most)
	p.line(classes[k]+" p50", p50)
	p.line(classes[k], p99)
	r.hovers(p, func(at Point) string {
		l := at.latency(k)
		if l.Count == 0 {
			return "none ended"
		}
		return fmt.Sprintf("p50 %s, p99 %s, max %s ms of %d",
			fineMilliseconds(l.P50), fineMilliseconds(l.P99), fineMilliseconds(l.Max), l.Count)
	})
	return p.String()
}

// latency returns the latencies of one kind.
func (p Point) latency(k kind) LatencyPoint {
	return [kindCount]LatencyPoint{p.Create, p.Status, p.EndToEnd}[k]
}

// throughputPlot shows what was planned and what was done.
func (r Report) throughputPlot() string {
	var planned, done []point
	y := axis{0, 1, false}
	for _, at := range r.during() {
		from, to := at.At.Seconds(), r.endOf(at).Seconds()
		seconds := to - from
		planned = append(planned, point{from, float64(at.Planned) / seconds}, point{to, float64(at.Planned) / seconds})
		done = append(done, point{(from + to) / 2, float64(at.Done) / seconds})
		y.to = max(y.to, planned[len(planned)-1].y*1.08, done[len(done)-1].y*1.08)
	}
	p := r.timePlot("Throughput over time", y, number)
	if r.Mode == "open" {
		p.line("planned", planned)
	}
	p.line("done", done)
	r.hovers(p, func(at Point) string { return fmt.Sprintf("planned %d, done %d", at.Planned, at.Done) })
	return p.String()
}

// lossPlot shows the requests that failed and those that were dropped.
func (r Report) lossPlot() string {
	y, some := axis{0, 4, false}, false
	for _, at := range r.Timeline {
		y.to = max(y.to, float64(at.Failed+at.Dropped)*1.08)
		some = some || at.Failed+at.Dropped > 0
	}
	p := r.timePlot("Failures over time", y, number)
	for _, at := range r.Timeline {
		from, to := at.At.Seconds(), (at.At + r.Interval).Seconds()
		p.bar("failed", from, to, 0, float64(at.Failed))
		p.bar("dropped", from, to, float64(at.Failed), float64(at.Failed+at.Dropped))
	}
	if !some {
		p.note("none")
	}
	r.hovers(p, func(at Point) string { return fmt.Sprintf("failed %d, dropped %d", at.Failed, at.Dropped) })
	return p.String()
}

// timePlot returns a plot with the time of the load as its horizontal axis.
func (r Report) timePlot(label string, y axis, yText func(float64) string) *plot {
	x := axis{0, max(r.Elapsed.Seconds(), 1), false}
	if n := len(r.Timeline); n > 0 {
		x.to = max(x.to, r.Timeline[n-1].At.Seconds())
	}
	return newPlot(label, x, y, timeTicks(x.to), timeText, yText)
}

// timeTicks returns at most eight ticks in seconds, at steps of whole seconds, minutes or hours.
func timeTicks(to float64) (ticks []float64) {
	step := math.Ceil(to/(8*86400)) * 86400
	for _, s := range []float64{1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800} {
		if to/s <= 8 {
			step = s
			break
		}
	}
	for v := 0.0; v <= to; v += step {
		ticks = append(ticks, v)
	}
	return ticks
}

// timeText returns a text such as 45s, 10m or 1h30m.
func timeText(seconds float64) string {
	text := (time.Duration(seconds) * time.Second).String()
	if minutes, whole := strings.CutSuffix(text, "m0s"); whole {
		text = minutes + "m"
	}
	if hours, whole := strings.CutSuffix(text, "h0m"); whole {
		text = hours + "h"
	}
	return text
}

// hovers adds the text of each interval.
func (r Report) hovers(p *plot, text func(Point) string) {
	if len(r.Timeline) > hoverMax {
		return
	}
	for _, at := range r.Timeline {
		p.hover(at.At.Seconds(), (at.At + r.Interval).Seconds(), at.At.String()+": "+text(at))
	}
}

// during returns the intervals of the load itself, without a last one that is too short for a rate.
func (r Report) during() []Point {
	n := len(r.Timeline)
	for n > 1 && r.Elapsed-r.Timeline[n-1].At < r.Interval/4 {
		n--
	}
	return r.Timeline[:n]
}

func (r Report) endOf(at Point) time.Duration {
	return max(min(at.At+r.Interval, r.Elapsed), at.At+time.Millisecond)
}

// widen adds some space at both ends of a logarithmic axis.
func widen(a axis) axis { return axis{max(a.from, 1e-3) * 0.8, max(a.to, 2e-3) * 1.25, true} }

func millis(d time.Duration) float64 { return max(d.Seconds()*1000, 1e-3) }

// number returns a short text, such as 0.05 or 12.5k.
func number(v float64) string {
	if v >= 10_000 {
		return strconv.FormatFloat(v/1000, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
