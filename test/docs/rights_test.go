package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRights_Printed: docs/rights.md shows what `paylatch roles` prints.
func TestRights_Printed(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile(filepath.Join(root, "docs/rights.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for only, language := range map[string]string{"sql": "sql", "kafka": "sh"} {
		printed, err := exec.Command(filepath.Join(dir, "paylatch"), "roles", "--only", only).Output()
		if err != nil {
			t.Fatal(err)
		}
		if block := "```" + language + "\n" + string(printed) + "```\n"; !strings.Contains(string(document), block) {
			t.Errorf("docs/rights.md: got no block as paylatch roles --only %s prints it, want this:\n%s", only, block)
		}
	}
}
