package docs_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// recordLine is a line of test/bench/record.json.
type recordLine struct {
	Ratio float64   `json:"ratio"`
	Work  []float64 `json:"work"`
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

var (
	// figureRow is a row of the table of costs: measurement, ratio, baseline, line.
	figureRow = regexp.MustCompile("(?m)\\| ([0-9.,]+)(?:/s| ms)? \\| ([0-9.]+) \\| [^|]+ \\| `([a-z0-9_]+)` \\|$")
	snakeCase = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)+$`)
	// notOfRecord are names in docs/sizing.md that are no lines of the record.
	notOfRecord = []string{"shared_buffers", "read_committed"}
)

// matches reports whether the written number is the exact one, rounded.
func matches(written string, exact float64) bool {
	n, err := strconv.ParseFloat(strings.ReplaceAll(written, ",", ""), 64)
	_, decimals, _ := strings.Cut(written, ".")
	return err == nil && math.Abs(n-exact) <= 0.5001*math.Pow10(-len(decimals))
}

// wrongFigures returns the figures of a table of costs that the record does not have.
func wrongFigures(table string, record map[string]recordLine) (faults []string) {
	for _, row := range figureRow.FindAllStringSubmatch(table, -1) {
		line, ok := record[row[3]]
		switch {
		case !ok || len(line.Work) == 0:
			faults = append(faults, "no such line of the record: "+row[3])
		case !matches(row[1], median(line.Work)) || !matches(row[2], line.Ratio):
			faults = append(faults, fmt.Sprintf("%s: got %s and a ratio of %s, want %.3f and %.3f",
				row[3], row[1], row[2], median(line.Work), line.Ratio))
		}
	}
	return faults
}

// TestFigures compares the costs in docs/sizing.md with the record of the bench.
func TestFigures(t *testing.T) {
	t.Parallel()
	record := map[string]recordLine{}
	text, err := os.ReadFile(filepath.Join(root, "test/bench/record.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs/sizing.md"))
	if err != nil {
		t.Fatal(err)
	}
	if rows := figureRow.FindAllString(string(page), -1); len(rows) < 10 {
		t.Fatalf("got %d rows of figures, want at least 10", len(rows))
	}
	for _, fault := range wrongFigures(string(page), record) {
		t.Errorf("docs/sizing.md: %s", fault)
	}
	for _, name := range codeOf(parse("docs/sizing.md", string(page))) {
		_, ok := record[name]
		if snakeCase.MatchString(name) && !ok && !slices.Contains(notOfRecord, name) {
			t.Errorf("docs/sizing.md: no such line of the record: %s", name)
		}
	}

	control := "| create | 19,667/s | 1.95 | x | `a` |\n| create | 19,666/s | 1.96 | x | `a` |\n" +
		"| create | 19,666/s | 1.95 | x | `a` |\n| size | 171 | 1.95 | x | `b` |\n"
	got := wrongFigures(control, map[string]recordLine{"a": {Ratio: 1.953, Work: []float64{1, 19666.258, 99999}}})
	if len(got) != 3 {
		t.Errorf("got %q of the control, want 3 faults", got)
	}
}
