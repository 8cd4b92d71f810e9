package loadtest

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLatencies: percentiles are exact to 0.1 %, and the maximum is exact.
func TestLatencies(t *testing.T) {
	var all, half latencies
	const n = 100_000
	for i := 1; i <= n; i++ {
		l := &all
		if i%2 == 0 {
			l = &half
		}
		l.add(time.Duration(i) * 10 * time.Microsecond)
	}
	all.merge(&half)
	s := all.summary()
	if s.Count != n || s.Max != n*10*time.Microsecond {
		t.Fatalf("%+v", s)
	}
	for p, got := range map[float64]time.Duration{50: s.P50, 90: s.P90, 95: s.P95, 99: s.P99, 99.9: s.P999} {
		want := time.Duration(p / 100 * n * float64(10*time.Microsecond))
		if got < want || got > want+want/1000 {
			t.Errorf("p%g %v, want %v", p, got, want)
		}
	}
	curve := all.curve()
	first, last := curve[0], curve[len(curve)-1]
	if first.rarity != 2 || first.took != s.P50 || last.rarity != n || last.took != s.Max {
		t.Errorf("curve from %+v to %+v", first, last)
	}
}

func TestLatencies_Edges(t *testing.T) {
	var l latencies
	if l.summary() != (Latency{}) || l.curve() != nil {
		t.Error("nothing measured")
	}
	l.add(-time.Second) // A clock that was set back.
	l.add(time.Hour)
	s := l.summary()
	if s.Count != 2 || s.P50 > latencyLeast || s.Max != time.Hour || s.P99 > time.Hour || s.P99 < latencyMost {
		t.Errorf("%+v", s)
	}
	l.reset()
	if l.summary() != (Latency{}) {
		t.Error("not reset")
	}
}

func TestTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		line := newTimeline(start, 0)
		line.at(start).Planned++
		line.measure(kindCreate, start.Add(time.Second/2), 7*time.Millisecond)
		line.measure(kindStatus, start.Add(3200*time.Millisecond), time.Millisecond)
		line.at(start.Add(time.Second)).Failed++ // Counted late.
		line.measure(kindCreate, start.Add(100*time.Hour), time.Second)
		line.close()
		p := line.points
		if len(p) != timelineMax || p[0].Planned != 1 || p[0].Create.Max != 7*time.Millisecond || p[1].Failed != 1 ||
			p[3].Status.Count != 1 || p[3].Create.Count != 0 || p[3].At != 3*time.Second ||
			p[timelineMax-1].Create.Max != time.Second {
			t.Errorf("%+v", p[:4])
		}
	})
	for length, want := range map[time.Duration]time.Duration{
		time.Second: time.Second, timelinePoints * time.Second: time.Second, time.Hour: 12 * time.Second,
	} {
		if got := newTimeline(time.Now(), length).interval; got != want {
			t.Errorf("%v: intervals of %v, want %v", length, got, want)
		}
	}
}
