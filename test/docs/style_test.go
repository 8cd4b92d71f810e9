package docs_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// privateWords are words that this project once used in a sense of its own. The brackets keep a
// search for the words from finding them here.
var privateWords = regexp.MustCompile(
	`(?i)\b(tells[ ]whether|who[e]ver|take[-]over|st[r]angers?|a[n]ew|for[ ]ever|heirs?)\b`)

// TestWords checks that no document uses a private word, but the history and the generated
// documents: these have the words of the programs' help.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, d := range documents(t) {
		if d.name == "CHANGELOG.md" || slices.Contains(d.prose, strings.TrimSpace(generatedNote)) {
			continue
		}
		for _, word := range privateWordsOf(d) {
			t.Errorf("%s: got %q, want a word of the field", d.name, word)
		}
	}
	control := parse("control", "Its heir takes it.\n\n| Heirs take it | a new one |\n")
	if got := privateWordsOf(control); !slices.Equal(got, []string{"heir", "Heirs"}) {
		t.Errorf("got %q of the control, want heir and Heirs", got)
	}
}

func privateWordsOf(d document) (found []string) {
	for _, text := range slices.Concat(d.prose, d.cells, d.titles) {
		found = append(found, privateWords.FindAllString(text, -1)...)
	}
	return found
}

const decisionLinesMin, decisionLinesMax = 20, 40

var (
	decisionFile  = regexp.MustCompile(`^docs/adr/(\d{4})-[a-z0-9-]+\.md$`)
	decisionTitle = regexp.MustCompile(`^(\d+)\. \S`)
)

// wrongDecision returns what is wrong with the form of a decision, which has a number.
func wrongDecision(d document, number string, lines int) (faults []string) {
	m := decisionTitle.FindStringSubmatch(strings.Join(d.titles[:min(1, len(d.titles))], ""))
	if m == nil || fmt.Sprintf("%04s", m[1]) != number {
		faults = append(faults, "the title does not begin with the number of the file")
	}
	want := []string{"Context", "Decision", "Consequences"}
	if len(d.titles) != 4 || !slices.Equal(d.titles[1:], want) {
		faults = append(faults, fmt.Sprintf("got the sections %q, want %q", d.titles[min(1, len(d.titles)):], want))
	}
	if lines < decisionLinesMin || lines > decisionLinesMax {
		faults = append(faults, fmt.Sprintf("got %d lines, want %d to %d", lines, decisionLinesMin, decisionLinesMax))
	}
	return faults
}

// TestDecisions checks the form of the files in docs/adr, and that no number is used twice.
func TestDecisions(t *testing.T) {
	t.Parallel()
	numbers := map[string]string{}
	for _, d := range documents(t) {
		if path.Dir(d.name) != "docs/adr" {
			continue
		}
		m := decisionFile.FindStringSubmatch(d.name)
		if m == nil {
			t.Errorf("%s: got no name of the form NNNN-title.md", d.name)
			continue
		}
		if other, used := numbers[m[1]]; used {
			t.Errorf("%s has the number of %s", d.name, other)
		}
		numbers[m[1]] = d.name
		text, err := os.ReadFile(filepath.Join(root, d.name))
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range wrongDecision(d, m[1], strings.Count(string(text), "\n")) {
			t.Errorf("%s: %s", d.name, fault)
		}
	}
	control := parse("control", "# 2. A title\n\n## Context\n\n## Decision\n")
	if got := wrongDecision(control, "0003", 41); len(got) != 3 {
		t.Errorf("got %q of the control, want 3 faults", got)
	}
}

// unreachable returns the documents that no chain of links leads to from README.md. A link to a
// directory leads to all documents in it.
func unreachable(all []document) (lost []string) {
	reached := map[string]bool{"README.md": true}
	for changed := true; changed; {
		changed = false
		for _, d := range all {
			if !reached[d.name] {
				continue
			}
			for _, to := range linked(d) {
				for _, other := range all {
					if !reached[other.name] && (other.name == to || path.Dir(other.name) == to) {
						reached[other.name], changed = true, true
					}
				}
			}
		}
	}
	for _, d := range all {
		if !reached[d.name] && !strings.HasPrefix(d.name, ".github/") {
			lost = append(lost, d.name)
		}
	}
	return lost
}

// linked returns the targets of a document's relative links, without anchors.
func linked(d document) (targets []string) {
	for _, text := range slices.Concat(d.prose, d.cells) {
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			name, _, _ := strings.Cut(m[1], "#")
			targets = append(targets, path.Join(path.Dir(d.name), name))
		}
	}
	return targets
}

// TestReachable checks that a reader who starts at README.md finds every document.
func TestReachable(t *testing.T) {
	t.Parallel()
	if lost := unreachable(documents(t)); len(lost) > 0 {
		t.Errorf("got no links to %q", lost)
	}
	control := []document{
		parse("README.md", "[a](docs/a.md)"), parse("docs/a.md", "[b](b.md), [d](adr)"), parse("docs/b.md", ""),
		parse("docs/adr/0001-x.md", ""), parse("docs/c.md", "[a](a.md)"),
	}
	if got := unreachable(control); !slices.Equal(got, []string{"docs/c.md"}) {
		t.Errorf("got %q of the control, want docs/c.md", got)
	}
}
