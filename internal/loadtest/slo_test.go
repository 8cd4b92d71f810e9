package loadtest

import (
	"strings"
	"testing"
	"time"
)

func TestParseObjective(t *testing.T) {
	for text, want := range map[string]struct {
		percentile float64
		kinds      int
		endToEnd   bool
		limit      time.Duration
	}{
		"p99=50ms":             {99, 2, false, 50 * time.Millisecond},
		"p99.9=1s":             {99.9, 2, false, time.Second},
		"max=2s":               {100, 2, false, 2 * time.Second},
		"create.p99.9=80ms":    {99.9, 1, false, 80 * time.Millisecond},
		"status.p50=900us":     {50, 1, false, 900 * time.Microsecond},
		"end_to_end.p95=0.2s":  {95, 1, true, 200 * time.Millisecond},
		"end_to_end.max=1m30s": {100, 1, true, 90 * time.Second},
	} {
		o, err := ParseObjective(text)
		if err != nil || o.percentile != want.percentile || len(o.kinds) != want.kinds ||
			o.EndToEnd() != want.endToEnd || o.limit != want.limit {
			t.Errorf("%q: got %+v, %v; want %+v", text, o, err, want)
		}
	}
	for text, want := range map[string]string{
		"":               "is not p50",
		"p98=1ms":        "is not p50",
		"p99":            "a time above 0",
		"p99=":           "a time above 0",
		"p99=5":          "a time above 0",
		"p99=-1ms":       "a time above 0",
		"write.p99=1ms":  "is not create, status",
		"create.=1ms":    "is not p50",
		"create.p42=1ms": "is not p50",
		".p99=1ms":       "is not create",
	} {
		if _, err := ParseObjective(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q in it", text, err, want)
		}
	}
}

// measured returns the report of a hundred creates that took 1 to 100 ms, and of lost ones.
func measured(lost int64) Report {
	var r Report
	for i := 1; i <= 100; i++ {
		r.whole[kindCreate].add(time.Duration(i) * time.Millisecond)
	}
	r.Create.Dropped = lost
	return r
}

// TestReport_Judge: lost requests are slower than any limit.
func TestReport_Judge(t *testing.T) {
	for text, want := range map[string][3]bool{ // With 0, 2 and 60 lost.
		"create.p50=60ms":     {true, true, false},
		"create.p50=40ms":     {false, false, false},
		"create.p99=100ms":    {true, false, false},
		"create.p90=93ms":     {true, true, false},
		"create.max=100ms":    {true, false, false},
		"create.max=99ms":     {false, false, false},
		"status.p99=1h":       {false, false, false}, // Nothing was measured.
		"end_to_end.p99=100h": {false, false, false},
	} {
		o, err := ParseObjective(text)
		if err != nil {
			t.Fatal(err)
		}
		for i, lost := range []int64{0, 2, 60} {
			v := measured(lost).Judge([]Objective{o})
			if len(v) != 1 || v[0].Met != want[i] {
				t.Errorf("%s with %d lost: %v", text, lost, v)
			}
		}
	}
	both, err := ParseObjective("p99=1s")
	if err != nil {
		t.Fatal(err)
	}
	v := measured(2).Judge([]Objective{both})
	if len(v) != 2 || v[0].Objective != "create.p99" || v[1].Objective != "status.p99" ||
		v[0].String() != "create.p99 is lost, limit 1000.00 ms, 2 requests lost" {
		t.Errorf("%v", v)
	}
}
