package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/paylatch/paylatch/"

var (
	mapRow     = regexp.MustCompile("(?m)^\\| (`[a-z][^|]*`) \\|")
	inBacktick = regexp.MustCompile("`([^`]+)`")
)

// rowsOf returns the row of each package in the map, which is the first cell of each row.
func rowsOf(table string) map[string]int {
	rows := map[string]int{}
	for i, cell := range all(mapRow, table) {
		for _, name := range all(inBacktick, cell) {
			rows[name] = i
		}
	}
	return rows
}

// row returns the row of a package or of a directory above it.
func row(rows map[string]int, name string) (n int, ok bool) {
	for ; name != "." && !ok; name = filepath.Dir(name) {
		n, ok = rows[name]
	}
	return n, ok
}

// wrongMap returns the packages that the map does not have, and the imports that point up.
func wrongMap(rows map[string]int, imports map[string][]string) (faults []string) {
	for name, imported := range imports {
		from, ok := row(rows, name)
		if !ok {
			faults = append(faults, "no row for "+name)
			continue
		}
		for _, other := range imported {
			if to, ok := row(rows, other); ok && to < from {
				faults = append(faults, fmt.Sprintf("%s is below %s and imports it", name, other))
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// importsOf returns the imports among our packages, without those of tests.
func importsOf(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`,
		"./cmd/...", "./internal/...", "./client/...", "./migrations", "./examples/...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		name := strings.TrimPrefix(paths[0], module)
		imports[name] = nil
		for _, path := range paths[1:] {
			if other, ours := strings.CutPrefix(path, module); ours {
				imports[name] = append(imports[name], other)
			}
		}
	}
	if len(imports) < 15 {
		t.Fatalf("got %d packages, want at least 15", len(imports))
	}
	return imports
}

// TestMap checks that the map in ARCHITECTURE.md has every package and every directory of test, and
// that imports point down.
func TestMap(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n## The map\n")
	packages, rest, _ := strings.Cut(rest, "| under `test` | |")
	underTest, _, _ := strings.Cut(rest, "\n### ")
	for _, fault := range wrongMap(rowsOf(packages), importsOf(t)) {
		t.Errorf("ARCHITECTURE.md: %s", fault)
	}
	entries, err := os.ReadDir(filepath.Join(root, "test"))
	if err != nil {
		t.Fatal(err)
	}
	rows := rowsOf(underTest)
	for _, e := range entries {
		if _, ok := rows[e.Name()]; !ok {
			t.Errorf("ARCHITECTURE.md: no row for test/%s", e.Name())
		}
	}

	control := rowsOf("| `cmd/a` | x |\n| `b`, `c` | y |\n")
	got := wrongMap(control, map[string][]string{"cmd/a": {"b"}, "b": {"c"}, "c/d": {"cmd/a"}, "e": nil})
	if want := []string{"c/d is below cmd/a and imports it", "no row for e"}; !slices.Equal(got, want) {
		t.Errorf("got %q of the control, want %q", got, want)
	}
}
