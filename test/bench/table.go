//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

const tableForm = "%-20s %-34s %-34s %7s  %s\n"

func tellHead(w io.Writer, short bool) {
	form := "full form"
	if short {
		form = "short form"
	}
	fmt.Fprintf(w, "%s; median (least – most) of runs, work and baseline alternate\n\n", form)
	fmt.Fprintf(w, tableForm, "line", "work", "baseline", "ratio", "reach")
}

// print prints a group's lines of the table, and below them what else was measured.
func (g group) print(w io.Writer, measured map[string]figures, took time.Duration) {
	printed := map[string]bool{}
	for _, l := range g.lines {
		f, ok := measured[l.key]
		if !ok {
			continue
		}
		fmt.Fprintf(w, tableForm, l.key, spread(f.work, l.unit), spread(f.baseline, l.unit), number(f.ratio()),
			l.verdict(f.ratio()))
	}
	for _, l := range g.lines {
		f := measured[l.key]
		for _, name := range slices.Sorted(maps.Keys(f.raw)) {
			if !printed[name] {
				printed[name] = true
				fmt.Fprintf(w, "    %s: %s\n", strings.ReplaceAll(name, "_", " "), number(f.raw[name]))
			}
		}
	}
	fmt.Fprintf(w, "    (%s)\n", took.Round(time.Second))
}

func (l line) verdict(ratio float64) string {
	if l.reach == 0 {
		return "-"
	}
	sign := "≥"
	if l.better == lower {
		sign = "≤"
	}
	verdict := "reached"
	if !l.reached(ratio) {
		verdict = "NOT reached"
	}
	return fmt.Sprintf("%s %s %s", sign, number(l.reach), verdict)
}

// spread formats the runs of one contender.
func spread(turns []float64, unit string) string {
	if len(turns) == 0 {
		return "-"
	}
	if len(turns) == 1 || slices.Min(turns) == slices.Max(turns) {
		return number(turns[0]) + " " + unit
	}
	return fmt.Sprintf("%s %s (%s – %s)", number(median(turns)), unit, number(slices.Min(turns)),
		number(slices.Max(turns)))
}

// number shows three digits, which is more than a shared machine is good for.
func number(x float64) string {
	switch {
	case math.Abs(x) >= 100:
		return fmt.Sprintf("%.0f", x)
	case math.Abs(x) >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// median is the middle one; of an even number, the mean of the two in the middle.
func median(turns []float64) float64 {
	if len(turns) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(turns))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}
