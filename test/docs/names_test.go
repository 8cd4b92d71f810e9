package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// names holds what documents may name.
type names struct {
	commands map[string]command
	metrics  []string
	targets  []string            // Of make.
	tests    map[string][]string // Test functions, by directory relative to the root.
	settings []string            // Environment variables of programs, tests and compose files.
	roles    []string            // Of PostgreSQL, and principals of Kafka, in docs/rights.md.
	sources  map[string]string   // Go code without tests, by package name.
}

var (
	metricName  = regexp.MustCompile(`\bpaylatch_[a-z_]+[a-z]\b`)
	settingName = regexp.MustCompile(`\bPAYLATCH_[A-Z_]+[A-Z]\b`)
	makeTarget  = regexp.MustCompile(`^make ([a-z-]+)`)
	goTest      = regexp.MustCompile(`^go test (\./\S+)(?: .*)?$`)
	runPattern  = regexp.MustCompile(` -run '?([^' ]+)'?`)
	testName    = regexp.MustCompile(`^Test[A-Z]\w*$`)
	pathName    = regexp.MustCompile(`^(?:internal|cmd|test|docs|migrations|client|examples)/[\w./*-]+$`)
	identifier  = regexp.MustCompile(`^([a-z]+)\.((?:[A-Za-z]\w*\.)*[A-Za-z]\w*)$`)
	testFunc    = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`)
	roleName    = regexp.MustCompile(`(?:to |User:)(paylatch_\w+)`)
	metricRow   = regexp.MustCompile("(?m)^\\| `(paylatch_[a-z_]+)`")
	targetRow   = regexp.MustCompile(`(?m)^([a-z-]+):.*## `)
)

// gather reads the names from the programs, the generated documents and the sources.
func gather(t *testing.T) names {
	t.Helper()
	n := names{commands: programs(t), tests: map[string][]string{}, sources: map[string]string{}}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	n.metrics = all(metricRow, read("docs/metrics.md"))
	n.targets = all(targetRow, read("Makefile"))
	n.roles = all(roleName, read("docs/rights.md"))
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		isGo, isCompose := filepath.Ext(name) == ".go", strings.HasPrefix(name, "docker-compose")
		if !isGo && !isCompose {
			return nil
		}
		text, dir := read(name), filepath.ToSlash(filepath.Dir(name))
		if dir != "test/docs" { // Its controls have wrong names.
			n.settings = append(n.settings, settingName.FindAllString(text, -1)...)
		}
		if strings.HasSuffix(name, "_test.go") {
			n.tests[dir] = append(n.tests[dir], all(testFunc, text)...)
		} else if strings.HasPrefix(dir, "internal/") || strings.HasPrefix(dir, "client") {
			n.sources[filepath.Base(dir)] += text
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// all returns the first group of every match.
func all(pattern *regexp.Regexp, text string) (found []string) {
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// codeOf returns the pieces of code of a document: inline code, and the lines of its shell blocks.
func codeOf(d document) (pieces []string) {
	for _, text := range slices.Concat(d.prose, d.cells) {
		for _, code := range inlineCode.FindAllString(text, -1) {
			pieces = append(pieces, strings.Trim(code, "`"))
		}
	}
	for _, b := range d.blocks {
		if b.language == "sh" {
			pieces = append(pieces, commandLines(b.text)...)
		}
	}
	return pieces
}

// commandLines joins lines that end with a backslash, and drops comments.
func commandLines(text string) (lines []string) {
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		line = strings.TrimSpace(line)
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// wrong returns what a piece of code names that does not exist.
func (n names) wrong(code string) (faults []string) {
	words := strings.Fields(code)
	if len(words) == 0 {
		return nil
	}
	for _, name := range settingName.FindAllString(code, -1) {
		if !slices.Contains(n.settings, name) {
			faults = append(faults, "no such setting: "+name)
		}
	}
	for _, name := range metricName.FindAllString(code, -1) {
		if !slices.Contains(n.metrics, name) && !slices.Contains(n.roles, name) {
			faults = append(faults, "no such metric: "+name)
		}
	}
	if m := makeTarget.FindStringSubmatch(code); m != nil && !slices.Contains(n.targets, m[1]) {
		faults = append(faults, "no such target of make: "+m[1])
	}
	_, isProgram := n.commands[words[0]]
	switch {
	case isProgram && len(words) > 1:
		faults = append(faults, wrongFlags(n.commands, words)...)
	case strings.HasPrefix(code, "--") && !n.someFlag(words[0]):
		faults = append(faults, "no such flag: "+words[0])
	case goTest.MatchString(code):
		faults = append(faults, n.wrongTests(code)...)
	case testName.MatchString(code) && !n.someTest(code):
		faults = append(faults, "no such test: "+code)
	case pathName.MatchString(code):
		if found, err := filepath.Glob(filepath.Join(root, code)); err != nil || len(found) == 0 {
			faults = append(faults, "no such file: "+code)
		}
	case identifier.MatchString(code):
		faults = append(faults, n.wrongIdentifier(code)...)
	}
	return faults
}

// someFlag reports whether a command has the flag.
func (n names) someFlag(word string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
	for _, c := range n.commands {
		if slices.Contains(flagNames(c), name) {
			return true
		}
	}
	return false
}

// someTest reports whether a test function has the prefix.
func (n names) someTest(prefix string) bool {
	for _, tests := range n.tests {
		if slices.ContainsFunc(tests, func(test string) bool { return strings.HasPrefix(test, prefix) }) {
			return true
		}
	}
	return false
}

// wrongTests returns an error if `go test` would run no test.
func (n names) wrongTests(code string) []string {
	dir := strings.TrimPrefix(goTest.FindStringSubmatch(code)[1], "./")
	tests, ok := n.tests[dir]
	if !ok {
		return []string{"no tests in " + dir}
	}
	m := runPattern.FindStringSubmatch(code)
	if m == nil {
		return nil
	}
	pattern, err := regexp.Compile(m[1])
	if err != nil || !slices.ContainsFunc(tests, pattern.MatchString) {
		return []string{fmt.Sprintf("no test in %s matches %s", dir, m[1])}
	}
	return nil
}

// wrongIdentifier returns an error if a package of ours does not contain the identifier. A name
// that begins with no package of ours is none of our identifiers, and neither is the name of a
// finding of the doctor.
func (n names) wrongIdentifier(code string) []string {
	m := identifier.FindStringSubmatch(code)
	source, ok := n.sources[m[1]]
	isFinding := strings.Contains(n.sources["doctor"], `"`+code+`"`) // Such as kafka.retention.
	if !ok || isFinding || slices.Contains([]string{"go", "md", "pml", "sh", "json", "yml", "sql", "mod"}, m[2]) {
		return nil
	}
	for name := range strings.SplitSeq(m[2], ".") {
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(source) {
			return []string{fmt.Sprintf("package %s has no %s", m[1], name)}
		}
	}
	return nil
}

// TestNames looks up every flag, setting, metric, target of make, test, file and identifier that a
// document names in its code. CHANGELOG.md is history, and the names in it may be gone.
func TestNames(t *testing.T) {
	t.Parallel()
	n := gather(t)
	if len(n.metrics) < 10 || len(n.targets) < 10 || len(n.roles) < 3 {
		t.Fatalf("got %d metrics, %d targets and %d roles: the patterns are wrong",
			len(n.metrics), len(n.targets), len(n.roles))
	}
	for _, d := range documents(t) {
		if d.name == "CHANGELOG.md" {
			continue
		}
		for _, code := range codeOf(d) {
			for _, fault := range n.wrong(code) {
				t.Errorf("%s: %s", d.name, fault)
			}
		}
	}
}

// TestNames_Control shows that wrong names are found, and right ones are not.
func TestNames_Control(t *testing.T) {
	t.Parallel()
	n := gather(t)
	text := strings.Join([]string{
		"`paylatch serve --listen`, `--dry-run`, `paylatch partitions`, `paylatch partitions resume 3 --resend`",
		"`PAYLATCH_TOPIC`, `paylatch_ready`, `paylatch_sender`, `make test`, `TestLinks`, `docs/adr/0001-*.md`",
		"`go test ./test/matrix -run TestMatrix`, `store.Claim.MarkSent`, `example.Missing`",
	}, ", ")
	for _, code := range codeOf(parse("right", text)) {
		if len(n.wrong(code)) > 0 {
			t.Errorf("got %q of %q, want none", n.wrong(code), code)
		}
	}
	wrong := []string{
		"`paylatch serve --lisen`", "`--dry-walk`", "`paylatch serv`", "`paylatch partitions resume 3 --assume`",
		"`PAYLATCH_TOPICS`", "`paylatch_steady`", "`make best`", "`TestNoSuch`", "`docs/adr/9999-*.md`",
		"`go test ./test/matrix -run TestNoSuch`", "`go test ./test/none`", "`store.Claim.MarkScent`",
		"```sh\npaylatch verify \\\n  --jason\n```",
	}
	for _, text := range wrong {
		code := codeOf(parse("wrong", text))
		if len(code) != 1 || len(n.wrong(code[0])) != 1 {
			t.Errorf("%s: got %q, want one fault", text, n.wrong(code[0]))
		}
	}
}
