package loadtest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/journal"
)

// TestReport_WriteHTML: the page loads nothing, and has a plot for each thing that was measured.
// Its SVG is well-formed also for no request, one request, gaps, and many intervals.
func TestReport_WriteHTML(t *testing.T) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	fill := func(tl *tally, seconds, each int) {
		for i := range seconds {
			if i%5 == 3 {
				continue // A gap.
			}
			for n := range each {
				now := start.Add(time.Duration(i)*time.Second + time.Duration(n)*time.Millisecond)
				took := time.Duration(1+n*n) * 100 * time.Microsecond
				tl.planned(arrival{}, now, 0)
				tl.create(0, now, took, false, nil, nil)
				tl.status(0, now, took/3, nil, nil)
				tl.visible(0, now, took*2)
			}
		}
	}
	for name, test := range map[string]struct {
		steps   []Step
		elapsed time.Duration
		fill    func(*tally)
		plots   int
		texts   []string
	}{
		"Nothing": {nil, 0, func(*tally) {}, 2, []string{"4 workers", ">none<"}},
		"One":     {nil, time.Second, func(tl *tally) { fill(tl, 1, 1) }, 6, []string{">p50<", ">p90<"}},
		"Stepped": {[]Step{{10, 10 * time.Second}, {20, 10 * time.Second}}, 20100 * time.Millisecond, func(tl *tally) {
			fill(tl, 20, 40)
			tl.dropped(arrival{}, start.Add(3*time.Second))
			tl.status(0, start.Add(4*time.Second), 0, nil, errors.New("<script>alert(1)</script>"))
		}, 6, []string{
			"20/s create", `<tbody class="whole">`, "at most 7 requests in flight", "&lt;script&gt;",
			"SLO missed", "dropped: as many", ">p99<", "failed 1, dropped 0",
		}},
		"Long": {nil, 2000 * time.Second, func(tl *tally) { fill(tl, 2000, 2) }, 6, []string{">10m<", ">30m<"}},
	} {
		t.Run(name, func(t *testing.T) {
			tl := newTally(len(test.steps), newTimeline(start, 0))
			test.fill(tl)
			r := tl.report(test.steps, test.elapsed)
			r.describe(&load{cfg: Config{Steps: test.steps, InFlight: 7, Workers: 4}, start: start})
			r.Version, r.Servers, r.Command = "v1.2.3", []string{"a:1", "b:2"}, "payclient load --html <file>"
			r.Audit = &journal.Report{Keys: 9, Confirmed: 8, Missing: journal.Findings{Count: 1}}
			r.EndToEnd = &EndToEnd{Topic: "payments", Latency: r.whole[kindEndToEnd].summary()}
			o, err := ParseObjective("create.p50=1us")
			if err != nil {
				t.Fatal(err)
			}
			r.Verdicts = r.Judge([]Objective{o})
			var out bytes.Buffer
			if err := r.WriteHTML(&out); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			svgs := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(text, -1)
			if len(svgs) != test.plots {
				t.Errorf("%d plots, want %d", len(svgs), test.plots)
			}
			for _, svg := range svgs {
				wellFormed(t, svg)
			}
			for _, want := range append(
				test.texts, "Load of 24 November 2026, 12:00:00 UTC", "SLO missed",
				"<dt>server</dt><dd>a:1, b:2</dd>", "<dt>version</dt><dd>v1.2.3</dd>",
				"<dt>command</dt><dd>payclient load --html &lt;file&gt;</dd>",
				"<dt>audit</dt><dd>journal, service and topic contradict each other: missing 1",
			) {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in the page", want)
				}
			}
			bad := regexp.MustCompile(`(?i:https?:|<script|src=|url\()|NaN|[+-]Inf|ZgotmplZ`)
			if bad := bad.FindString(text); bad != "" {
				t.Errorf("%q is in the page", bad)
			}
		})
	}
}

// wellFormed parses an SVG strictly.
func wellFormed(t *testing.T, svg string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
	}
}

func TestAxis(t *testing.T) {
	for _, c := range []struct {
		axis  axis
		ticks []float64
	}{
		{axis{0, 10, false}, []float64{0, 2, 4, 6, 8, 10}},
		{axis{0, 1234, false}, []float64{0, 500, 1000}},
		{axis{3, 60, true}, []float64{5, 10, 20, 50}},
		{axis{0.5, 5000, true}, []float64{1, 10, 100, 1000}},
	} {
		equal := func(a, b float64) bool { return math.Abs(a-b) < 1e-9*b+1e-12 }
		if got := c.axis.ticks(5); !slices.EqualFunc(got, c.ticks, equal) {
			t.Errorf("%+v: %v, want %v", c.axis, got, c.ticks)
		}
		if c.axis.part(c.axis.from) != 0 || c.axis.part(c.axis.to) != 1 {
			t.Errorf("%+v: from %v to %v", c.axis, c.axis.part(c.axis.from), c.axis.part(c.axis.to))
		}
	}
	for seconds, want := range map[float64]string{
		0: "0s", 45: "45s", 60: "1m", 600: "10m", 90: "1m30s", 3600: "1h", 5400: "1h30m", 36000: "10h",
	} {
		if got := timeText(seconds); got != want {
			t.Errorf("%g seconds: %q, want %q", seconds, got, want)
		}
	}
	for to, want := range map[float64]int{1: 2, 8: 9, 9: 5, 3600: 7, 86400: 7, 9e6: 8} {
		if got := timeTicks(to); len(got) != want || got[len(got)-1] > to {
			t.Errorf("ticks up to %g: %v", to, got)
		}
	}
	for v, want := range map[float64]string{0.05: "0.05", 1200: "1200", 12_500: "12.5k"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}
