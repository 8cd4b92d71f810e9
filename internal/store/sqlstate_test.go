package store_test

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/store"
)

// TestSQLState_Complete: every SQLSTATE of PostgreSQL has an outcome that was chosen. The file has
// the codes of https://www.postgresql.org/docs/18/errcodes-appendix.html, one in each line.
func TestSQLState_Complete(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/sqlstates.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	codes := 0
	for lines := bufio.NewScanner(file); lines.Scan(); codes++ {
		code, _, _ := strings.Cut(lines.Text(), " ")
		if _, known := store.Outcome(code); !known {
			t.Errorf("SQLSTATE %s has a class without an outcome", lines.Text())
		}
	}
	const listed = 250 // At least: a file that was cut off would show nothing.
	if codes < listed {
		t.Errorf("%d codes are listed, want at least %d", codes, listed)
	}
}

// TestSQLState_Outcomes: the outcomes on which clients depend.
func TestSQLState_Outcomes(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"08006": "not now", "25006": "not now", "28P01": "not now", "40001": "not now", "40003": "not now",
		"42501": "not now",
		"53100": "not now", "53300": "not now", "55000": "not now", "55P03": "not now", "57014": "not now",
		"57P01": "not now", "58030": "not now",
		"22001": "bug", "23505": "bug", "23514": "bug", "25001": "bug", "42601": "bug", "54000": "bug", "P0001": "bug",
		"XX000": "bug", "ZZ000": "bug",
		"3F000": "not migrated", "42703": "not migrated", "42883": "not migrated", "42P01": "not migrated",
	} {
		if got, _ := store.Outcome(code); got != want {
			t.Errorf("SQLSTATE %s: got %s, want %s", code, got, want)
		}
	}
}
