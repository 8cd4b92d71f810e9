package style_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// privateWords are words that this project once used in a sense of its own. CONTRIBUTING.md has the
// words that took their place. The brackets keep a search for the words from finding them here.
var privateWords = regexp.MustCompile(
	`(?i)tells[ ]whether|who[e]ver|take[-]over|st[r]anger|a[n]ew|\bfor[ ]ever\b`)

// private returns where a file has a private word.
func private(f file) (faults []string) {
	for i, line := range strings.Split(f.text, "\n") {
		for _, word := range privateWords.FindAllString(line, -1) {
			faults = append(faults, fmt.Sprintf("%s:%d: got %q, want a word of the field", f.name, i+1, word))
		}
	}
	return faults
}

// TestWords checks all that is written by hand, but the history.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, f := range written(t, ".go", ".md", ".pml", ".sh", ".sql", ".yml", ".html", "Makefile", "run") {
		if f.name == "CHANGELOG.md" {
			continue
		}
		for _, fault := range private(f) {
			t.Error(fault)
		}
	}
}

func TestWords_Control(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("_", "").Replace(
		"package a\n\n// F te_lls whether it is Str_angers.\nfunc F() {}\n\nconst an_ewName = `for e_ver`\n")
	want := []string{
		`a.go:3: got "te` + `lls whether", want a word of the field`,
		`a.go:3: got "Str` + `anger", want a word of the field`,
		`a.go:6: got "an` + `ew", want a word of the field`,
		`a.go:6: got "for e` + `ver", want a word of the field`,
	}
	if got := private(parse(t, "a.go", text)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
