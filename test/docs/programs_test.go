package docs_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// binaries is where the programs are built, once.
var binaries string

func TestMain(m *testing.M) {
	code := m.Run()
	if binaries != "" {
		_ = os.RemoveAll(binaries)
	}
	os.Exit(code)
}

// build builds all programs of cmd and returns their directory.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "paylatch-docs-")
	if err != nil {
		return "", err
	}
	binaries = dir
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), "./cmd/...")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// cleanEnv returns the environment without settings of Paylatch.
func cleanEnv() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PAYLATCH_") {
			env = append(env, v)
		}
	}
	return env
}

// command is what the help of a program prints about one of its commands.
type command struct {
	name  string // As in "paylatch partitions resume"; the program's own name for its common flags.
	help  string
	args  []argument
	flags []argument
}

// argument is an argument or a flag.
type argument struct {
	name     string // Without its dashes.
	value    string // The default in quotes, or a placeholder; empty for a switch.
	variable string // Of the environment; empty if it has none.
	help     string
}

var (
	helpLine = regexp.MustCompile(`^ {2,6}(?:-\w, )?(--\S+|<\S+>|\[\S+\]|\S.*?\S)(?: {2,}(.*))?$`)
	variable = regexp.MustCompile(` ?\(\$(PAYLATCH_[A-Z_]+)\)`)
)

// helpOf returns the help of a program or command, in lines that are not wrapped.
func helpOf(t *testing.T, args ...string) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, args[0]), append(args[1:], "--help")...)
	cmd.Env = append(cleanEnv(), "COLUMNS=4000")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q --help: %v", args, err)
	}
	return string(out)
}

// section returns the items under a title of a help text, "Flags:" for example.
func section(text, title string) (items []argument) {
	_, rest, _ := strings.Cut(text, "\n"+title+"\n")
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' {
			break
		}
		m := helpLine.FindStringSubmatch(line)
		switch {
		case m == nil && strings.TrimSpace(line) != "" && len(items) > 0: // Wrapped all the same.
			items[len(items)-1].help += " " + strings.TrimSpace(line)
		case m != nil:
			name, value, _ := strings.Cut(strings.Trim(m[1], "-<>[]. "), "=")
			name = strings.TrimSuffix(strings.TrimPrefix(name, "no-]"), ">")
			items = append(items, argument{name: name, value: value, help: m[2]})
		}
	}
	for i, a := range items {
		a.help = strings.TrimSpace(a.help)
		if m := variable.FindStringSubmatch(a.help); m != nil {
			a.variable, a.help = m[1], variable.ReplaceAllString(a.help, "")
		}
		items[i] = a
	}
	return items
}

// commandsOf returns the commands of a program, in the order of its help.
func commandsOf(t *testing.T, program string) (all []command) {
	t.Helper()
	text := helpOf(t, program)
	all = append(all, command{name: program, flags: section(text, "Flags:")})
	for _, c := range section(text, "Commands:") {
		path := strings.Fields(c.name)
		own := helpOf(t, append([]string{program}, path...)...)
		all = append(all, command{
			name: program + " " + strings.Join(path, " "), help: c.help,
			args: section(own, "Arguments:"), flags: section(own, "Flags:"),
		})
	}
	if len(all) < 2 {
		t.Fatalf("got no commands in the help of %s:\n%s", program, text)
	}
	return all
}

// programs returns the commands of all programs, by name.
func programs(t *testing.T) map[string]command {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "cmd"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]command{}
	for _, e := range entries {
		for _, c := range commandsOf(t, e.Name()) {
			all[c.name] = c
		}
	}
	return all
}

// flagNames returns the names of a command's flags.
func flagNames(c command) []string {
	names := make([]string, len(c.flags))
	for i, f := range c.flags {
		names[i] = f.name
	}
	return names
}

// known returns the longest command that the words begin with. The first word is a program.
func known(all map[string]command, words []string) (c command, rest []string) {
	for n := len(words); n > 0; n-- {
		if c, ok := all[strings.Join(words[:n], " ")]; ok {
			return c, words[n:]
		}
	}
	return command{}, words
}

// wrongFlags returns what is wrong with a command line of one of our programs.
func wrongFlags(all map[string]command, words []string) (faults []string) {
	c, rest := known(all, words)
	if c.name == "" {
		return []string{"no such program: " + words[0]}
	}
	isGroup := slices.ContainsFunc(slices.Collect(maps.Keys(all)), func(name string) bool {
		return strings.HasPrefix(name, strings.Join(words, " ")+" ")
	})
	if len(c.args) == 0 && len(rest) > 0 && regexp.MustCompile(`^[a-z]`).MatchString(rest[0]) &&
		!strings.Contains(c.name, " ") && !isGroup {
		faults = append(faults, fmt.Sprintf("%s has no command %s", c.name, rest[0]))
	}
	for _, word := range rest {
		name, isFlag := strings.CutPrefix(word, "--")
		if !isFlag {
			continue
		}
		name, _, _ = strings.Cut(name, "=")
		if !slices.Contains(flagNames(c), strings.TrimPrefix(name, "no-")) {
			faults = append(faults, fmt.Sprintf("%s has no flag --%s", c.name, name))
		}
	}
	return faults
}
