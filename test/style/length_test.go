package style_test

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// lengthMax is the most lines of a function outside tests: one screen.
const lengthMax = 60

// function is a function or method, and its lines from func to the closing brace.
type function struct {
	name  string
	lines int
}

func functions(f file) (all []function) {
	for _, d := range f.parsed.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			all = append(all, function{fn.Name.Name, f.line(fn.End()) - f.line(fn.Pos()) + 1})
		}
	}
	return all
}

// tooLong returns the functions that do not fit on a screen.
func tooLong(f file) (faults []string) {
	for _, fn := range functions(f) {
		if fn.lines > lengthMax {
			faults = append(faults, fmt.Sprintf("%s: got %d lines of %s, want at most %d",
				f.name, fn.lines, fn.name, lengthMax))
		}
	}
	return faults
}

// TestLengths also logs the distribution: `go test -v -run TestLengths ./test/style`.
func TestLengths(t *testing.T) {
	t.Parallel()
	var ofFunctions, ofFiles []int
	for _, f := range written(t, ".go") {
		if f.isTest() || strings.HasPrefix(f.name, "test/") {
			continue
		}
		for _, fault := range tooLong(f) {
			t.Error(fault)
		}
		for _, fn := range functions(f) {
			ofFunctions = append(ofFunctions, fn.lines)
		}
		ofFiles = append(ofFiles, strings.Count(f.text, "\n"))
	}
	for what, lines := range map[string][]int{"functions": ofFunctions, "files": ofFiles} {
		slices.Sort(lines)
		n := len(lines)
		t.Logf("%d %s: median %d lines, 90th percentile %d, longest %d",
			n, what, lines[n/2], lines[n*9/10], lines[n-1])
	}
}

func TestLengths_Control(t *testing.T) {
	t.Parallel()
	body := func(lines int) string { return "{" + strings.Repeat("\n", lines-1) + "}\n" }
	got := tooLong(parse(t, "a.go", "package a\n\nfunc f() "+body(lengthMax)+"\n"+
		"// A comment does not count.\nfunc g() "+body(lengthMax)+"\nfunc (t T) h() "+body(lengthMax+1)))
	want := []string{"a.go: got 61 lines of h, want at most 60"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
