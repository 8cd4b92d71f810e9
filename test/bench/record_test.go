//go:build linux

package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// gateGroup is one line each way, measured together.
var gateGroup = group{name: "gate", lines: []line{
	{key: "rate", better: higher, gated: true},
	{key: "delay", better: lower, gated: true},
	{key: "ungated", better: higher},
}}

// recordedGate is what the gate's own tests compare with: the full ratios are others, since the
// gate must not look at them.
func recordedGate() record {
	return record{"rate": {Ratio: 99, ShortRatio: 2}, "delay": {Ratio: 0.01, ShortRatio: 2}}
}

func measured(rate, delay float64) map[string]figures {
	return map[string]figures{
		"rate":  {work: []float64{rate}, baseline: []float64{1}},
		"delay": {work: []float64{delay}, baseline: []float64{1}},
	}
}

// TestGate shows that the gate fails if a line is more than a quarter worse than recorded, twice;
// if it is not in the record; and if it cannot be measured. The measurements are given, so that
// only the verdict is tested.
func TestGate(t *testing.T) {
	broken := errors.New("the database is away")
	for name, c := range map[string]struct {
		recorded record
		turns    []any // The results of the measurements: figures or an error.
		measured int
		fault    string // Part of the error; empty: the gate passes.
	}{
		"AsRecorded":         {recordedGate(), []any{measured(2, 2)}, 1, ""},
		"Better":             {recordedGate(), []any{measured(9, 0.1)}, 1, ""},
		"WorseWithinAllowed": {recordedGate(), []any{measured(1.51, 2.49)}, 1, ""},
		"RateFell": {
			recordedGate(),
			[]any{measured(1.49, 2), measured(1.49, 2)},
			2,
			"rate: 1.49, more than 25 % below the recorded 2.00",
		},
		"DelayRose": {
			recordedGate(),
			[]any{measured(2, 2.51), measured(2, 2.51)},
			2,
			"delay: 2.51, more than 25 % above the recorded 2.00",
		},
		"FellOnce":        {recordedGate(), []any{measured(1, 2), measured(2, 2)}, 2, ""},
		"OneThenTheOther": {recordedGate(), []any{measured(1, 2), measured(2, 3)}, 2, ""},
		"KeyMissing": {
			record{"delay": {ShortRatio: 2}},
			[]any{measured(2, 2), measured(2, 2)},
			2,
			"rate: the record has no short figure",
		},
		"ShortFigureMissing": {
			record{"rate": {Ratio: 2}, "delay": {ShortRatio: 2}},
			[]any{measured(2, 2), measured(2, 2)},
			2, "rate: the record has no short figure",
		},
		"RecordEmpty": {
			record{},
			[]any{measured(2, 2), measured(2, 2)},
			2,
			"delay: the record has no short figure",
		},
		"NotMeasured": {recordedGate(), []any{broken, broken}, 2, "rate: the database is away"},
		"FiguresMissing": {
			recordedGate(),
			[]any{map[string]figures{}, map[string]figures{}},
			2,
			"rate: it was not measured",
		},
		"MeasuredAtSecondTry": {recordedGate(), []any{broken, measured(2, 2)}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			count := 0
			err := gate(t.Context(), &out, c.recorded, []group{gateGroup},
				func(context.Context, group) (map[string]figures, error) {
					turn := c.turns[min(count, len(c.turns)-1)]
					count++
					if err, ok := turn.(error); ok {
						return nil, err
					}
					return turn.(map[string]figures), nil
				})
			if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Errorf("the gate says %v, want %q", err, c.fault)
			}
			if count != c.measured {
				t.Errorf("measured %d times, want %d", count, c.measured)
			}
			if again := strings.Contains(out.String(), "measured once more, since"); again != (c.measured == 2) {
				t.Errorf("the output does not say whether it was measured once more: %s", out.String())
			}
		})
	}
}

// TestRecord shows that what is written is read back, that a line that was not measured stays, and
// that a line without a short form gets no short figure.
func TestRecord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	r, err := readRecord(file)
	if err != nil || len(r) != 0 {
		t.Fatalf("a record that is not there: %v, %v", r, err)
	}
	r["fenced_vs_locked"] = entry{Ratio: 0.5, ShortRatio: 0.5}
	full := map[string]figures{
		"create_vs_insert": {work: []float64{30, 10, 20}, baseline: []float64{10, 10, 10}},
		"mixed_p99":        {work: []float64{2}, baseline: []float64{1}},
	}
	short := map[string]figures{
		"create_vs_insert": {work: []float64{5}, baseline: []float64{2}},
		"mixed_p99":        {work: []float64{7}, baseline: []float64{1}},
	}
	r.take(full, short, "abc")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	r, err = readRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	if e := r["create_vs_insert"]; e.Ratio != 2 || e.ShortRatio != 2.5 || e.Better != higher || e.Commit != "abc" ||
		e.At == "" {
		t.Errorf("create_vs_insert: %+v", e)
	}
	if e := r["mixed_p99"]; e.Ratio != 2 || e.ShortRatio != 0 || e.Better != lower {
		t.Errorf("mixed_p99: %+v", e)
	}
	if e := r["fenced_vs_locked"]; e.Ratio != 0.5 {
		t.Errorf("a line that was not measured: %+v", e)
	}
}

// TestMedian: of an even number it is between the two in the middle.
func TestMedian(t *testing.T) {
	for want, turns := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 2, 3}, 7: {7}} {
		if got := median(turns); got != want {
			t.Errorf("median of %v: got %v, want %v", turns, got, want)
		}
	}
}
