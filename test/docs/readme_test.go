package docs_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// startTimeout bounds the start of the demo, without a download of PostgreSQL.
	startTimeout = 2 * time.Minute
	// stopTimeout bounds its end.
	stopTimeout = 30 * time.Second
)

// stack is the demo: what `make run` starts, on free ports.
type stack struct {
	api, admin, kafka, postgres string
}

// startStack starts the demo with its data under dir, where `paylatch-dev env` looks for them. It
// stops the demo when the test ends.
func startStack(t *testing.T, dir string) stack {
	t.Helper()
	programs, err := build()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(programs, "paylatch-dev")
	cmd := exec.Command(program, "run", "--listen", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0")
	cmd.Env, cmd.Dir = cleanEnv(), dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				ready <- rest
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(stopTimeout):
			_ = cmd.Process.Kill()
			t.Error("the demo did not stop")
		}
		removeData(t, dir)
	})
	select {
	case line := <-ready:
		return stackOf(t, line)
	case <-ended:
		t.Fatalf("the demo ended: %s", stderr.String())
	case <-time.After(startTimeout):
		t.Fatal("the demo did not start")
	}
	return stack{}
}

// removeData removes what the demo keeps outside dir: as root, PostgreSQL's data, behind a link.
func removeData(t *testing.T, dir string) {
	t.Helper()
	target, err := os.Readlink(filepath.Join(dir, ".paylatch", "postgres"))
	if err != nil {
		return // Not root.
	}
	if err := os.RemoveAll(filepath.Dir(target)); err != nil {
		t.Error(err)
	}
}

// stackOf reads the line that the demo prints when it is ready.
func stackOf(t *testing.T, line string) stack {
	t.Helper()
	values := map[string]string{}
	for word := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(word, "=")
		values[name] = value
	}
	s := stack{values["api"], values["admin"], values["kafka"], values["postgres"]}
	if s.api == "" || s.admin == "" || s.kafka == "" || s.postgres == "" {
		t.Fatalf("got the line %q, want addresses", line)
	}
	return s
}

// substitute puts the stack in the place of the reader's own PostgreSQL and Kafka.
func (s stack) substitute(text string) string {
	return strings.NewReplacer(
		"kafka-1:9092,kafka-2:9092", s.kafka,
		"postgres://paylatch:secret@db-1:5432/paylatch", s.postgres,
	).Replace(text)
}

// reader follows a document's commands as a reader would, against a stack.
type reader struct {
	stack    stack
	dir      string // Where commands run.
	binaries string
	env      map[string]string
	commands map[string]command
	names    names
	compose  string // docker-compose.yml.
}

var (
	servesForever = []string{"serve", "api", "sender"}
	evalLine      = regexp.MustCompile(`^eval "\$\((.*)\)"$`)
	composeScale  = regexp.MustCompile(`--scale (\w+)=`)
)

// follow executes a command. It only parses one that serves until it is stopped, or that needs
// Docker. It returns how it treated the command.
func (r *reader) follow(line string) (how string, err error) {
	if m := evalLine.FindStringSubmatch(line); m != nil {
		return "executed", r.eval(strings.Fields(m[1]))
	}
	words, err := shellWords(r.stack.substitute(line), func(name string) string { return r.env[name] })
	if err != nil || len(words) == 0 {
		return "", err
	}
	switch program := words[0]; {
	case program == "export":
		r.export(words[1:])
		return "executed", nil
	case program == "curl":
		status, body, err := curl(words[1:])
		if err == nil && status/100 != 2 {
			err = fmt.Errorf("got status %d: %s", status, body)
		}
		return "executed", err
	case program == "make", program == "docker":
		return "parsed", r.parse(line)
	case r.commands[program].name == "":
		return "", fmt.Errorf("%s is not a program of ours", program)
	case len(words) > 1 && slices.Contains(servesForever, words[1]):
		return "parsed", r.parse(line)
	default:
		_, err := r.run(words)
		return "executed", err
	}
}

func (r *reader) export(assignments []string) {
	for _, assignment := range assignments {
		name, value, _ := strings.Cut(assignment, "=")
		r.env[name] = value
	}
}

// eval exports what a program prints as lines of export.
func (r *reader) eval(words []string) error {
	out, err := r.run(words)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		exported, err := shellWords(strings.TrimSpace(line), func(string) string { return "" })
		if err != nil || len(exported) == 0 || exported[0] != "export" {
			return fmt.Errorf("%q is no line of export: %w", line, err)
		}
		r.export(exported[1:])
	}
	return nil
}

// parse checks a command without executing it.
func (r *reader) parse(line string) error {
	if m := composeScale.FindStringSubmatch(line); m != nil && !strings.Contains(r.compose, "\n  "+m[1]+":\n") {
		return fmt.Errorf("docker-compose.yml has no service %s", m[1])
	}
	if faults := r.names.wrong(line); len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

// run executes one of our programs and returns what it printed.
func (r *reader) run(words []string) (stdout string, err error) {
	cmd := exec.Command(filepath.Join(r.binaries, words[0]), words[1:]...)
	cmd.Dir = r.dir
	cmd.Env = cleanEnv()
	for name, value := range r.env {
		if name != "PATH" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s%s", err, out, stderr.String())
	}
	return string(out), nil
}

// TestStack follows README's commands against the demo, in their order. `make run` and `paylatch
// serve` serve until they are stopped, and `make up`, `make simulate`, `make down` and `docker
// compose` need Docker: these are parsed only. Then it compares docs/metrics.md with what the demo
// exposes.
func TestStack(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	s := startStack(t, work)
	compose, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	n := gather(t)
	r := &reader{
		stack: s, dir: work, binaries: dir, commands: n.commands, names: n, compose: string(compose),
		env: map[string]string{},
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	treated := map[string]int{}
	for _, b := range parse("README.md", string(text)).blocks {
		if b.language != "sh" {
			continue
		}
		for _, line := range scriptCommands(b.text) {
			how, err := r.follow(line)
			if err != nil {
				t.Errorf("README.md: %s: %v", line, err)
			}
			treated[how]++
			t.Logf("%s: %s", how, line)
		}
	}
	if treated["executed"] < 8 || treated["parsed"] < 4 {
		t.Errorf("got %v commands of README, want at least 8 executed and 4 parsed", treated)
	}
	wrongs := []string{
		"make nothing", "paylatch serve --lisen x", "payclient simulate -n none", "docker compose up --scale nothing=2",
	}
	for _, wrong := range wrongs {
		if _, err := r.follow(wrong); err == nil {
			t.Errorf("%s: got no error", wrong)
		}
	}
	t.Run("metrics", func(t *testing.T) { current(t, "docs/metrics.md", metricsPage(t, s)) })
}

// scriptCommands splits a script into its commands. A quoted text may have several lines.
func scriptCommands(script string) (commands []string) {
	pending := ""
	for line := range strings.Lines(strings.ReplaceAll(script, "\\\n", " ")) {
		pending += line
		if strings.Count(pending, "'")%2 == 1 {
			continue
		}
		commands = append(commands, commandLines(strings.ReplaceAll(pending, "\n", " "))...)
		pending = ""
	}
	return commands
}

// scrape returns the text of the demo's metrics, once each family has a sample: a refusal and a
// waiting request make the last ones.
func scrape(t *testing.T, s stack) string {
	t.Helper()
	for _, path := range []string{"/nothing", "/problems/nothing"} {
		response, err := http.Get(s.api + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	response, err := http.Get(s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	metricHelp   = regexp.MustCompile(`(?m)^# HELP (paylatch_\w+) (.*)$`)
	metricType   = regexp.MustCompile(`(?m)^# TYPE (paylatch_\w+) (\w+)$`)
	metricLabels = regexp.MustCompile(`(?m)^(paylatch_\w+?)(?:_bucket)?\{(.*?)\} `)
	labelName    = regexp.MustCompile(`(\w+)="`)
)

// metricsPage returns docs/metrics.md for what the demo exposes.
func metricsPage(t *testing.T, s stack) string {
	t.Helper()
	text := scrape(t, s)
	types, labels := map[string]string{}, map[string][]string{}
	for _, m := range metricType.FindAllStringSubmatch(text, -1) {
		types[m[1]] = m[2]
	}
	for _, m := range metricLabels.FindAllStringSubmatch(text, -1) {
		for _, name := range all(labelName, m[2]) {
			if name != "le" && !slices.Contains(labels[m[1]], name) {
				labels[m[1]] = append(labels[m[1]], name)
			}
		}
	}
	var b strings.Builder
	b.WriteString("# Metrics\n\n" + generatedNote)
	b.WriteString("`/metrics` is on the admin listener, in the format of Prometheus. It also has the metrics\n" +
		"of Go and of the process. [Operations](operations.md#alerts) has the alerts.\n\n")
	b.WriteString("| metric | type | labels | |\n|---|---|---|---|\n")
	for _, m := range metricHelp.FindAllStringSubmatch(text, -1) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m[1], types[m[1]], strings.Join(labels[m[1]], ", "), cell(m[2]))
	}
	return b.String()
}
