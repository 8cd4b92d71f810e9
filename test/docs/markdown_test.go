// Package docs_test checks the documents of the repository: their sentences, their links, and the
// names and commands that they mention.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the root of the repository.
const root = "../.."

// block is a fenced code block.
type block struct {
	language string
	text     string
}

// document is a Markdown file. Its parts are what the checks need, and no more.
type document struct {
	name   string   // Relative to the root.
	prose  []string // Paragraphs and list items, one line each, without headings.
	cells  []string // Of tables.
	titles []string // Headings.
	blocks []block
}

var (
	fence     = regexp.MustCompile("^ *```([a-z]*)")
	heading   = regexp.MustCompile(`^#{1,6} +(.+)$`)
	listItem  = regexp.MustCompile(`^ *(?:[-*]|\d+\.) +`)
	tableRule = regexp.MustCompile(`^\|[-:| ]+\|$`)
)

// parse reads Markdown as this repository writes it: fenced code blocks only, no HTML.
func parse(name, text string) document {
	d := document{name: name}
	var paragraph []string
	end := func() {
		if len(paragraph) > 0 {
			d.prose = append(d.prose, strings.Join(paragraph, " "))
		}
		paragraph = nil
	}
	var code *block
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		mark := fence.FindStringSubmatch(line)
		switch {
		case code != nil && mark != nil:
			d.blocks = append(d.blocks, *code)
			code = nil
		case code != nil:
			code.text += line + "\n"
		case mark != nil:
			end()
			code = &block{language: mark[1]}
		case heading.MatchString(line):
			end()
			d.titles = append(d.titles, heading.FindStringSubmatch(line)[1])
		case strings.HasPrefix(line, "|"):
			end()
			d.cells = append(d.cells, cellsOf(line)...)
		case strings.TrimSpace(line) == "":
			end()
		default:
			if listItem.MatchString(line) {
				end()
				line = listItem.ReplaceAllString(line, "")
			}
			paragraph = append(paragraph, strings.TrimSpace(line))
		}
	}
	end()
	return d
}

// cellsOf returns the cells of a row of a table that have text.
func cellsOf(line string) (cells []string) {
	if tableRule.MatchString(line) {
		return nil
	}
	for cell := range strings.SplitSeq(strings.ReplaceAll(line, `\|`, "\x00"), "|") {
		cell = strings.TrimSpace(cell)
		if cell != "" {
			cells = append(cells, strings.ReplaceAll(cell, "\x00", "|"))
		}
	}
	return cells
}

// documents returns the Markdown files of the repository, parsed.
func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", ".paylatch", ".cache", "bin"}, name) {
			return filepath.SkipDir
		}
		if filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		all = append(all, parse(filepath.ToSlash(name), string(text)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("got %d documents, want at least 10: the walk is wrong", len(all))
	}
	return all
}
