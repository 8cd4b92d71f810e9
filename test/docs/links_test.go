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

var (
	target    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	notInSlug = regexp.MustCompile(`[^\pL\pN _-]`)
)

// slug returns the anchor that GitHub gives to a heading.
func slug(title string) string {
	plain := link.ReplaceAllString(title, "$1")
	plain = notInSlug.ReplaceAllString(strings.ToLower(plain), "")
	return strings.ReplaceAll(plain, " ", "-")
}

// deadLinks returns the relative links of a document that lead nowhere. isFile reports whether a
// path, relative to the root, exists; anchors has those of each document.
func deadLinks(d document, isFile func(string) bool, anchors map[string][]string) (dead []string) {
	for _, text := range slices.Concat(d.prose, d.cells) {
		text = inlineCode.ReplaceAllString(text, "")
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			name, anchor, hasAnchor := strings.Cut(m[1], "#")
			file := d.name
			if name != "" {
				file = path.Join(path.Dir(d.name), name)
			}
			if !isFile(file) || hasAnchor && !slices.Contains(anchors[file], anchor) {
				dead = append(dead, fmt.Sprintf("%s: dead link %s", d.name, m[1]))
			}
		}
	}
	return dead
}

// anchorsOf returns the anchors of each document.
func anchorsOf(all []document) map[string][]string {
	anchors := map[string][]string{}
	for _, d := range all {
		for _, title := range d.titles {
			anchors[d.name] = append(anchors[d.name], slug(title))
		}
	}
	return anchors
}

// TestLinks follows every relative link of every document, with its anchor.
func TestLinks(t *testing.T) {
	t.Parallel()
	all := documents(t)
	anchors := anchorsOf(all)
	isFile := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
		return err == nil
	}
	for _, d := range all {
		for _, dead := range deadLinks(d, isFile, anchors) {
			t.Error(dead)
		}
	}
}

// TestLinks_Control shows that dead links are found.
func TestLinks_Control(t *testing.T) {
	t.Parallel()
	d := parse("docs/a.md", `# The title, with a comma

[live](b.md), [live](../README.md), [live](#the-title-with-a-comma), [live](https://example.org/x.md)

| [live](b.md#part) | [dead](b.md#other) |
|---|---|

[dead](c.md) and [dead](#another-title)
`)
	isFile := func(name string) bool {
		return slices.Contains([]string{"docs/a.md", "docs/b.md", "README.md"}, name)
	}
	anchors := anchorsOf([]document{d, parse("docs/b.md", "## Part")})
	want := []string{
		"docs/a.md: dead link c.md",
		"docs/a.md: dead link #another-title",
		"docs/a.md: dead link b.md#other",
	}
	if got := deadLinks(d, isFile, anchors); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
