package docs_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Bounds of the words of a sentence. The median and the 90th percentile are those of a document's
// paragraphs and list items. The maximum counts for the cells of tables as well.
const (
	medianWordsMax   = 15
	p90WordsMax      = 28
	sentenceWordsMax = 40
	// sentencesMin is the least from which a percentile of one document is worth judging.
	sentencesMin = 10
)

var (
	inlineCode  = regexp.MustCompile("`[^`]+`")
	link        = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	sentenceEnd = regexp.MustCompile(`[.!?][)"*_]*\s+`)
	hasLetter   = regexp.MustCompile(`[\pL\pN]`)
)

// sentences returns the sentences of a paragraph. A piece of code counts as one word.
func sentences(paragraph string) (all []string) {
	plain := inlineCode.ReplaceAllString(paragraph, "Code")
	plain = link.ReplaceAllString(plain, "$1")
	for _, s := range sentenceEnd.Split(plain, -1) {
		if words(s) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// words returns the number of words of a sentence.
func words(sentence string) (n int) {
	for word := range strings.FieldsSeq(sentence) {
		if hasLetter.MatchString(word) {
			n++
		}
	}
	return n
}

// tooLong returns what is wrong with the sentences of a document.
func tooLong(d document) (faults []string) {
	var counts []int
	for _, paragraph := range d.prose {
		for _, s := range sentences(paragraph) {
			counts = append(counts, words(s))
		}
	}
	for _, text := range slices.Concat(d.prose, d.cells) {
		for _, s := range sentences(text) {
			if n := words(s); n > sentenceWordsMax {
				faults = append(faults,
					fmt.Sprintf("%s: got %d words, want at most %d: %s", d.name, n, sentenceWordsMax, s))
			}
		}
	}
	if len(counts) < sentencesMin {
		return faults
	}
	slices.Sort(counts)
	median, p90 := counts[len(counts)/2], counts[len(counts)*9/10]
	if median > medianWordsMax || p90 > p90WordsMax {
		faults = append(faults,
			fmt.Sprintf("%s: got a median of %d words and a 90th percentile of %d, want at most %d and %d",
				d.name, median, p90, medianWordsMax, p90WordsMax))
	}
	return faults
}

// TestSentences checks the length of sentences in every document but the history.
func TestSentences(t *testing.T) {
	t.Parallel()
	for _, d := range documents(t) {
		if filepath.Base(d.name) == "CHANGELOG.md" {
			continue
		}
		for _, fault := range tooLong(d) {
			t.Error(fault)
		}
	}
}

// TestSentences_Control shows that long sentences are found, and where.
func TestSentences_Control(t *testing.T) {
	t.Parallel()
	sentence := func(n int) string { return strings.TrimSpace(strings.Repeat("word ", n)) + ".\n\n" }
	tests := []struct {
		name, text string
		faults     int
	}{
		{"short sentences", strings.Repeat(sentence(15), 20), 0},
		{"long median", strings.Repeat(sentence(16), 20), 1},
		{"long tenth", strings.Repeat(sentence(10), 17) + strings.Repeat(sentence(29), 3), 1},
		{"few long sentences among many", strings.Repeat(sentence(10), 19) + sentence(29), 0},
		{"one very long sentence", strings.Repeat(sentence(10), 19) + sentence(41), 1},
		{"very long list item", "- " + sentence(41), 1},
		{"very long cell", "| " + sentence(41)[:41*5] + " | short |\n", 1},
		{"two sentences in a line", strings.Repeat(strings.TrimSpace(sentence(15))+" "+sentence(15), 10), 0},
		{"code and links", strings.Repeat("[one two](three/four.md) `a b c d e f g h i j k l m n o p q`.\n\n", 20), 0},
		{"code blocks", strings.Repeat("```sh\n"+sentence(50)+"```\n", 20), 0},
	}
	for _, test := range tests {
		if got := tooLong(parse(test.name, test.text)); len(got) != test.faults {
			t.Errorf("%s: got %d faults, want %d: %q", test.name, len(got), test.faults, got)
		}
	}
}
