package loadtest

import "time"

const (
	// timelinePoints is the number of points with which a plot shows a load.
	timelinePoints = 300
	// timelineMax bounds the points of a load of unknown length. The last point has all that comes
	// later.
	timelineMax = 3600
)

// Point is one interval of a load. Planned counts the requests that were planned in it. All else is
// counted when it ended.
type Point struct {
	// At is the begin of the interval, from the start of the load.
	At      time.Duration `json:"at_ns"`
	Planned int64         `json:"planned"`
	Done    int64         `json:"done"`
	// Failed includes the creates of unknown outcome.
	Failed   int64        `json:"failed"`
	Dropped  int64        `json:"dropped"`
	Create   LatencyPoint `json:"create,omitzero"`
	Status   LatencyPoint `json:"status,omitzero"`
	EndToEnd LatencyPoint `json:"end_to_end,omitzero"`
}

// LatencyPoint sums up the latencies of one interval.
type LatencyPoint struct {
	Count int64         `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

// timeline is a load in intervals. It has histograms of the current interval only.
type timeline struct {
	start    time.Time
	interval time.Duration
	points   []Point
	current  [kindCount]latencies
}

// newTimeline returns a timeline with intervals of whole seconds. The length is 0 if it is not
// known.
func newTimeline(start time.Time, length time.Duration) timeline {
	interval := (length/timelinePoints + time.Second - 1).Truncate(time.Second)
	return timeline{start: start, interval: max(interval, time.Second)}
}

// at returns the point of a moment. One in the past still counts, but its latencies are summed up.
func (t *timeline) at(moment time.Time) *Point {
	i := min(max(int(moment.Sub(t.start)/t.interval), 0), timelineMax-1)
	for len(t.points) <= i {
		t.close()
		t.points = append(t.points, Point{At: time.Duration(len(t.points)) * t.interval})
	}
	return &t.points[i]
}

// measure adds a latency to the current interval.
func (t *timeline) measure(k kind, now time.Time, took time.Duration) {
	t.at(now)
	t.current[k].add(took)
}

// close sums up the current interval.
func (t *timeline) close() {
	if len(t.points) == 0 {
		return
	}
	p := &t.points[len(t.points)-1]
	for k, into := range []*LatencyPoint{&p.Create, &p.Status, &p.EndToEnd} {
		l := &t.current[k]
		*into = LatencyPoint{Count: l.count, P50: l.at(50), P99: l.at(99), Max: l.longest}
		l.reset()
	}
}
