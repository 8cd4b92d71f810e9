package loadtest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The plots of a report.

// classes are the page's names of the kinds' colours.
var classes = [kinds]string{"create", "status", "visible"}

// curvePlot shows the whole distributions: to the right is rare, and upwards is slow, both by their logarithms.
func (r Report) curvePlot() string {
	var curves [kinds][]curvePoint
	x, y := axis{2, 100, true}, axis{math.Inf(1), 0, true}
	for k := range kinds {
		curves[k] = r.whole[k].curve()
		for _, c := range curves[k] {
			x.to = max(x.to, c.rarity)
			y.from, y.to = min(y.from, millis(c.took)), max(y.to, millis(c.took))
		}
	}
	if y.to == 0 {
		return ""
	}
	y = spread2(y)
	names := map[float64]string{2: "p50", 10: "p90", 20: "p95", 100: "p99", 1000: "p99.9", 1e4: "p99.99", 1e5: "p99.999", 1e6: "p99.9999"}
	var ticks []float64
	for _, v := range []float64{2, 10, 20, 100, 1000, 1e4, 1e5, 1e6} {
		if v <= x.to {
			ticks = append(ticks, v)
		}
	}
	p := newPlot("Latency by percentile", x, y, ticks, func(v float64) string { return names[v] }, number)
	for k := range kinds {
		var points []point
		for _, c := range curves[k] {
			points = append(points, point{max(c.rarity, x.from), millis(c.took)})
		}
		p.line(classes[k], points)
	}
	return p.String()
}

// latencyPlot shows one kind's latencies in the course of the load, by when the requests ended.
func (r Report) latencyPlot(k kind, of func(Point) LatencyPoint) string {
	y := axis{math.Inf(1), 0, true}
	var p50, p99, most []point
	for _, at := range r.Timeline {
		l, middle := of(at), (at.At + r.Interval/2).Seconds()
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
	p := r.timePlot(k.title()+": latency over time", spread2(y), number)
	p.dots(classes[k]+" max", most)
	p.line(classes[k]+" p50", p50)
	p.line(classes[k], p99)
	r.hovers(p, func(at Point) string {
		l := of(at)
		if l.Count == 0 {
			return "none ended"
		}
		return fmt.Sprintf("p50 %s, p99 %s, max %s ms of %d", fineMilliseconds(l.P50), fineMilliseconds(l.P99), fineMilliseconds(l.Max), l.Count)
	})
	return p.String()
}

// throughputPlot shows what was due and what was done.
func (r Report) throughputPlot() string {
	var due, done []point
	y := axis{0, 1, false}
	for _, at := range r.during() {
		from, to := at.At.Seconds(), r.endOf(at).Seconds()
		seconds := to - from
		due = append(due, point{from, float64(at.Planned) / seconds}, point{to, float64(at.Planned) / seconds})
		done = append(done, point{(from + to) / 2, float64(at.Done) / seconds})
		y.to = max(y.to, due[len(due)-1].y*1.08, done[len(done)-1].y*1.08)
	}
	p := r.timePlot("Throughput over time", y, number)
	if r.Mode == "open" {
		p.line("due", due)
	}
	p.line("done", done)
	r.hovers(p, func(at Point) string { return fmt.Sprintf("%d due, %d done", at.Planned, at.Done) })
	return p.String()
}

// lossPlot shows what got no answer, and what was not sent.
func (r Report) lossPlot() string {
	y, some := axis{0, 4, false}, false
	for _, at := range r.Timeline {
		y.to = max(y.to, float64(at.Failed+at.NoPlace)*1.08)
		some = some || at.Failed+at.NoPlace > 0
	}
	p := r.timePlot("Failures over time", y, number)
	for _, at := range r.Timeline {
		from, to := at.At.Seconds(), (at.At + r.Interval).Seconds()
		p.bar("failed", from, to, 0, float64(at.Failed))
		p.bar("noplace", from, to, float64(at.Failed), float64(at.Failed+at.NoPlace))
	}
	if !some {
		p.note("none")
	}
	r.hovers(p, func(at Point) string { return fmt.Sprintf("%d failed, %d without a place", at.Failed, at.NoPlace) })
	return p.String()
}

// timePlot has the load's time as its horizontal axis.
func (r Report) timePlot(label string, y axis, yText func(float64) string) *plot {
	x := axis{0, max(r.Elapsed.Seconds(), 1), false}
	if n := len(r.Timeline); n > 0 {
		x.to = max(x.to, r.Timeline[n-1].At.Seconds())
	}
	return newPlot(label, x, y, timeTicks(x.to), timeText, yText)
}

// timeTicks are seconds, at most eight, at steps that people count time by.
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

// timeText is 45s, 10m, 1h30m.
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

// hovers gives each interval its text.
func (r Report) hovers(p *plot, text func(Point) string) {
	if len(r.Timeline) > hoverMax {
		return
	}
	for _, at := range r.Timeline {
		p.hover(at.At.Seconds(), (at.At + r.Interval).Seconds(), at.At.String()+": "+text(at))
	}
}

// during are the intervals of the load itself. A last one that is too short for a rate is none.
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

// spread2 gives a logarithmic axis some room at both ends.
func spread2(a axis) axis { return axis{max(a.from, 1e-3) * 0.8, max(a.to, 2e-3) * 1.25, true} }

func millis(d time.Duration) float64 { return max(d.Seconds()*1000, 1e-3) }

// number is as short as it can be: 0.05, 1.2k.
func number(v float64) string {
	if v >= 10_000 {
		return strconv.FormatFloat(v/1000, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
