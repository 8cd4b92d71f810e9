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
	out := dir + string(filepath.Separator)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./cmd/...")
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
func helpOf(args ...string) (string, error) {
	dir, err := build()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(dir, args[0]), append(args[1:], "--help")...)
	cmd.Env = append(cleanEnv(), "COLUMNS=4000")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%q --help: %w", args, err)
	}
	return string(out), nil
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
			name, value, _ := strings.Cut(m[1], "=")
			name = strings.TrimPrefix(strings.Trim(name, "-<>[]. "), "no-]") // --[no-]retry, <partitions> ...
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

// readCommands reads the commands of a program from its help, in their order. The first one is the
// program itself.
func readCommands(program string) (commands []command, err error) {
	text, err := helpOf(program)
	if err != nil {
		return nil, err
	}
	commands = append(commands, command{name: program, flags: section(text, "Flags:")})
	for _, c := range section(text, "Commands:") {
		own, err := helpOf(append([]string{program}, strings.Fields(c.name)...)...)
		if err != nil {
			return nil, err
		}
		commands = append(commands, command{
			name: program + " " + c.name, help: c.help,
			args: section(own, "Arguments:"), flags: section(own, "Flags:"),
		})
	}
	if len(commands) < 2 {
		return nil, fmt.Errorf("got no commands in the help of %s: %s", program, text)
	}
	return commands, nil
}

// readPrograms reads the commands of each program, once.
var readPrograms = sync.OnceValues(func() (map[string][]command, error) {
	entries, err := os.ReadDir(filepath.Join(root, "cmd"))
	if err != nil {
		return nil, err
	}
	all := map[string][]command{}
	for _, e := range entries {
		all[e.Name()], err = readCommands(e.Name())
		if err != nil {
			return nil, err
		}
	}
	return all, nil
})

// commandsOf returns the commands of a program, in the order of its help.
func commandsOf(t *testing.T, program string) []command {
	t.Helper()
	all, err := readPrograms()
	if err != nil {
		t.Fatal(err)
	}
	return all[program]
}

// programs returns the commands of all programs, by name.
func programs(t *testing.T) map[string]command {
	t.Helper()
	all, err := readPrograms()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]command{}
	for _, commands := range all {
		for _, c := range commands {
			byName[c.name] = c
		}
	}
	return byName
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

// TestSection reads a help text as kong prints it.
func TestSection(t *testing.T) {
	t.Parallel()
	const text = `Usage: p c <name> [flags]

Arguments:
  <name>           The name.
  [<more> ...]     More names.

Flags:
  -h, --help       Show help.
      --[no-]retry
                   Send again,
                   or not.
      --listen="127.0.0.1:1"    Where ($PAYLATCH_LISTEN).

Commands:
  partitions list    List them.
`
	tests := []struct {
		title string
		want  []argument
	}{
		{"Arguments:", []argument{{name: "name", help: "The name."}, {name: "more", help: "More names."}}},
		{"Flags:", []argument{
			{name: "help", help: "Show help."},
			{name: "retry", help: "Send again, or not."},
			{name: "listen", value: `"127.0.0.1:1"`, variable: "PAYLATCH_LISTEN", help: "Where."},
		}},
		{"Commands:", []argument{{name: "partitions list", help: "List them."}}},
		{"Other:", nil},
	}
	for _, test := range tests {
		if got := section(text, test.title); !slices.Equal(got, test.want) {
			t.Errorf("%s got %+v, want %+v", test.title, got, test.want)
		}
	}
}
