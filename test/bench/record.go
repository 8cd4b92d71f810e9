//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// allowance is how much worse than recorded a ratio may be before the gate fails: two runs of the
// same code on a shared machine differ by less.
const allowance = 0.25

// entry is one line of the record.
type entry struct {
	Ratio float64 `json:"ratio"` // In full.
	// Of the short form, which the gate compares with; absent where there is none.
	ShortRatio float64            `json:"short_ratio,omitempty"`
	Better     direction          `json:"better"`
	Reach      float64            `json:"reach,omitempty"`
	Unit       string             `json:"unit"`
	Work       []float64          `json:"work"`
	Baseline   []float64          `json:"baseline"`
	At         string             `json:"at"` // RFC 3339.
	Commit     string             `json:"commit"`
	Raw        map[string]float64 `json:"raw,omitempty"`
}

// record is what was measured last, by the keys of the lines. It moves only in a commit that says
// why.
type record map[string]entry

// readRecord reads a record; one that is not there yet is empty.
func readRecord(file string) (record, error) {
	r := record{}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

func (r record) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// take puts what was measured into the record; lines that were not measured stay as they are.
func (r record) take(full, short map[string]figures, commit string) {
	for _, g := range groups {
		for _, l := range g.lines {
			f, ok := full[l.key]
			if !ok {
				continue
			}
			e := entry{
				Ratio: rounded(f.ratio()), Better: l.better, Reach: l.reach, Unit: l.unit, Work: roundedAll(f.work),
				Baseline: roundedAll(f.baseline),
				At:       f.at.UTC().Format(time.RFC3339), Commit: commit, Raw: map[string]float64{},
			}
			for name, x := range f.raw {
				e.Raw[name] = rounded(x)
			}
			if s, ok := short[l.key]; ok && l.gated {
				e.ShortRatio = rounded(s.ratio())
			}
			r[l.key] = e
		}
	}
}

// compare holds the short form of a line against the record; the error says what is wrong.
func (r record) compare(l line, ratio float64) error {
	e, ok := r[l.key]
	switch {
	case !ok || e.ShortRatio == 0:
		return fmt.Errorf("%s: the record has no short figure of it; `make bench RECORD=1` writes it", l.key)
	case ratio != ratio:
		return fmt.Errorf("%s: it was not measured", l.key)
	case l.better == higher && ratio < e.ShortRatio*(1-allowance):
		return fmt.Errorf("%s: %s, more than %.0f %% below the recorded %s", l.key, number(ratio), 100*allowance,
			number(e.ShortRatio))
	case l.better == lower && ratio > e.ShortRatio*(1+allowance):
		return fmt.Errorf("%s: %s, more than %.0f %% above the recorded %s", l.key, number(ratio), 100*allowance,
			number(e.ShortRatio))
	}
	return nil
}

// measurer measures the short form of a group's lines.
type measurer func(ctx context.Context, g group) (map[string]figures, error)

func (b *bench) gate(ctx context.Context, w io.Writer, recorded record, keys []string) error {
	tellHead(w, true)
	return gate(ctx, w, recorded, chosen(keys, true),
		func(ctx context.Context, g group) (map[string]figures, error) { return b.measureGroup(ctx, w, g, true) })
}

// gate returns an error if a line of the groups is more than the allowance worse than recorded, is
// not in the record, or cannot be measured. A group with such a line is measured once more, since
// the machine is shared.
func gate(ctx context.Context, w io.Writer, recorded record, some []group, measure measurer) error {
	var failed []string
	for _, g := range some {
		faults := g.faults(ctx, recorded, measure)
		if len(faults) > 0 && ctx.Err() == nil {
			fmt.Fprintf(w, "measured once more, since %s\n", strings.Join(faults, "; "))
			again := g.faults(ctx, recorded, measure)
			faults = slices.DeleteFunc(again, func(fault string) bool { return !sameLine(fault, faults) })
		}
		failed = append(failed, faults...)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("the gate:\n  %s", strings.Join(failed, "\n  "))
	}
	fmt.Fprintf(w, "\nno line is more than %.0f %% worse than recorded\n", 100*allowance)
	return nil
}

// sameLine reports whether one of the faults is of the same line: a fault of only one of two
// measurements is noise.
func sameLine(fault string, faults []string) bool {
	key, _, _ := strings.Cut(fault, ":")
	return slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, key+":") })
}

// faults measures the group and says what is wrong, each with its line's key in front.
func (g group) faults(ctx context.Context, recorded record, measure measurer) []string {
	measured, err := measure(ctx, g)
	var faults []string
	for _, l := range g.lines {
		if !l.gated {
			continue
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", l.key, err))
		} else if fault := recorded.compare(l, measured[l.key].ratio()); fault != nil {
			faults = append(faults, fault.Error())
		}
	}
	return faults
}

func rounded(x float64) float64 {
	const digits = 1000
	return float64(int64(x*digits+0.5)) / digits
}

func roundedAll(xs []float64) []float64 {
	out := make([]float64, len(xs))
	for i, x := range xs {
		out[i] = rounded(x)
	}
	return out
}
