package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// demoOnly are packages and modules that paylatch must not link. paylatch-dev does, which shows
// that the names are right.
var demoOnly = []string{
	"github.com/paylatch/paylatch/internal/embedded",
	"github.com/paylatch/paylatch/client",
	"github.com/paylatch/paylatch/internal/loadtest",
	"github.com/fergusstrange/embedded-postgres",
	"github.com/lib/pq",
	"github.com/xi2/xz",
	"github.com/twmb/franz-go/pkg/kfake",
	"github.com/HdrHistogram/hdrhistogram-go",
}

// TestLinks: the production binary has no embedded server, no fake broker, no second PostgreSQL
// driver, and no load generator with its report.
func TestLinks(t *testing.T) {
	links, demo := linked(t, "paylatch"), linked(t, "paylatch-dev")
	for _, path := range demoOnly {
		if slices.Contains(links, path) {
			t.Errorf("paylatch links %s", path)
		}
		if !slices.Contains(demo, path) {
			t.Errorf("paylatch-dev does not link %s: this test would not notice it in paylatch", path)
		}
	}
}

// linked returns the packages of a program and their modules.
func linked(t *testing.T, program string) (paths []string) {
	t.Helper()
	const format = "{{.ImportPath}}{{with .Module}} {{.Path}}{{end}}"
	const commands = "github.com/paylatch/paylatch/cmd/"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", format, commands+program).Output()
	if err != nil {
		t.Fatal(err)
	}
	paths = strings.Fields(string(out))
	if !slices.Contains(paths, "github.com/jackc/pgx/v5") {
		t.Fatalf("%s does not link pgx: the list is not one of packages and modules", program)
	}
	return paths
}
