package loadtest

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRates(t *testing.T) {
	for text, want := range map[string][]float64{
		"200/s": {200}, "200": {200}, "90/m": {1.5}, "36/h": {0.01}, "0.5": {0.5}, "100,200/s, 400": {100, 200, 400},
	} {
		if got, err := ParseRates(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "x", "1/d", "1/", "NaN", "Inf", "1,,2", "1e999"} {
		if got, err := ParseRates(text); err == nil || !strings.Contains(err.Error(), "rate") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestCheckSteps(t *testing.T) {
	for says, steps := range map[string][]Step{
		"at most 32":  slices.Repeat([]Step{{1, time.Second}}, StepsMax+1),
		"above 0 and": {{0, time.Second}},
		"together":    {{RequestRateMax/11.0 + 1, time.Second}},
		"step: 0s":    {{1, 0}},
		"NaN":         {{math.NaN(), time.Second}},
	} {
		if err := checkSteps(steps, 10); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not in %v", says, err)
		}
	}
	if err := checkSteps([]Step{{35, time.Hour}}, 10); err != nil {
		t.Error(err)
	}
}

// TestArrivals: two payments per second with three status requests each, then twice as many. All
// requests are evenly spaced, and status requests follow their create.
func TestArrivals(t *testing.T) {
	steps := []Step{{2, time.Second}, {4, 500 * time.Millisecond}}
	got := slices.Collect(arrivals(steps, 3, 0))
	if len(got) != 16 {
		t.Fatalf("%d arrivals: %+v", len(got), got)
	}
	for i, a := range got {
		want := arrival{after: time.Duration(i) * 125 * time.Millisecond, kind: kindCreate, turn: int64(i / 4)}
		if i >= 8 {
			want.step, want.after = 1, time.Second+time.Duration(i-8)*62_500*time.Microsecond
		}
		if i%4 > 0 {
			want.kind, want.turn = kindStatus, int64(i/4*3+i%4-1)
		}
		if a != want {
			t.Errorf("arrival %d: %+v, want %+v", i, a, want)
		}
	}
}

func TestArrivals_Count(t *testing.T) {
	got := slices.Collect(arrivals([]Step{{1000, time.Hour}}, 2, 5))
	if last := got[len(got)-1]; len(got) != 15 || last.kind != kindStatus || last.turn != 9 {
		t.Errorf("%d arrivals, the last %+v", len(got), last)
	}
	for range arrivals([]Step{{1000, time.Hour}}, 2, 0) {
		break // Stopping early must not panic.
	}
}
