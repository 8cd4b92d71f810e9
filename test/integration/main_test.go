// Package integration tests the programs as their users run them: processes of the built binaries
// against real PostgreSQL and a real broker.
package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m, removeBinaries) }

// startTimeout bounds the wait for a process to be ready.
const startTimeout = time.Minute

var binaryDir string

// binaries builds paylatch and paylatch-dev once, with the race detector when the tests have it,
// and returns their directory.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "paylatch-bin-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	args := []string{"build", "-buildvcs=false", "-o", dir + "/"}
	if raceEnabled {
		args = append(args, "-race")
	}
	const commands = "github.com/paylatch/paylatch/cmd/"
	out, err := exec.Command("go", append(args, commands+"paylatch", commands+"paylatch-dev")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

func removeBinaries() error { return os.RemoveAll(binaryDir) }

// process is a running program. Its log is checked when the test ends: it must have no race report,
// no panic, and none of the secrets.
type process struct {
	cmd   *exec.Cmd
	api   string // http://…
	admin string
	// ready is the line that paylatch-dev prints.
	ready  string
	stdout lockedBuffer
	stderr lockedBuffer
	done   chan struct{}
}

// command prepares paylatch with its own environment. Variables of Paylatch in the environment of
// the tests are not passed on.
func command(t *testing.T, env map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	if database, ok := env["PAYLATCH_DATABASE_URL"]; ok {
		env = maps.Clone(env)
		env["PAYLATCH_DATABASE_URL"] = asRole(database, args)
	}
	return commandOf(t, "paylatch", env, args...)
}

// roleOf has the database role of each command, with just the rights that `paylatch roles` prints.
// The others own the schema.
var roleOf = map[string]parts.Role{
	"api": parts.RoleAPI, "sender": parts.RoleSender, "serve": parts.RoleServe, "tenants": parts.RoleOperator,
	"partitions": parts.RoleOperator, "verify": parts.RoleOperator, "storage": parts.RoleOperator,
}

// asRole returns the URL with which a command logs in. A URL that names a role of a test stays.
func asRole(database string, args []string) string {
	if role, ok := roleOf[args[0]]; ok && !strings.Contains(database, "//login_") {
		return parts.As(database, role)
	}
	return database
}

// commandOf is command for one of the programs.
func commandOf(t *testing.T, program string, env map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, program), args...)
	cmd.Dir = t.TempDir()
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PAYLATCH_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// run runs a command of paylatch to its end and returns what it printed.
func run(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	cmd := command(t, env, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("paylatch %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// launch starts a command that runs until it is stopped, and waits until it is ready.
func launch(t *testing.T, env map[string]string, args ...string) *process {
	t.Helper()
	return launchCommand(t, command(t, env, args...))
}

// launchDemo starts paylatch-dev, and waits until it is ready.
func launchDemo(t *testing.T, args ...string) *process {
	t.Helper()
	return launchCommand(t, commandOf(t, "paylatch-dev", nil, append([]string{"run"}, args...)...))
}

func launchCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	args := cmd.Args[1:]
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.cmd.SysProcAttr = endWithUs()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{})
	var once sync.Once
	var readers sync.WaitGroup
	readers.Go(func() { p.follow(stdout, &p.stdout, func() { once.Do(func() { close(up) }) }) })
	readers.Go(func() { p.follow(stderr, &p.stderr, func() { once.Do(func() { close(up) }) }) })
	go func() {
		readers.Wait()
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		p.judgeLog(t)
	})
	select {
	case <-up:
	case <-p.done:
		t.Fatalf("paylatch %s ended: %s\n%s", strings.Join(args, " "), p.cmd.ProcessState, p.stderr.String())
	case <-time.After(startTimeout):
		t.Fatalf("paylatch %s is not ready after %s\n%s", strings.Join(args, " "), startTimeout, p.stderr.String())
	}
	return p
}

// follow keeps the output of the process, and calls up at the line with its addresses.
func (p *process) follow(r io.Reader, into *lockedBuffer, up func()) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		into.add(line)
		var started struct{ Msg, API, Admin string }
		switch {
		case strings.HasPrefix(line, "ready "):
			p.ready = line
			up()
		case json.Unmarshal([]byte(line), &started) == nil && started.Msg == "started":
			p.api, p.admin = started.API, started.Admin
			up()
		}
	}
}

// kill ends the process by SIGKILL, as a crash.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// signal requests a clean stop of the process.
func (p *process) signal(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// stop requests a clean stop of the process, and returns an error if its exit code is not 0.
func (p *process) stop(t *testing.T) error {
	t.Helper()
	p.signal(t)
	select {
	case <-p.done:
	case <-time.After(startTimeout):
		t.Fatalf("the process did not stop within %s\n%s", startTimeout, p.stderr.String())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("got exit code %d, want 0", code)
	}
	return nil
}

func (p *process) judgeLog(t *testing.T) {
	t.Helper()
	log := p.stderr.String()
	for _, bad := range append([]string{"WARNING: DATA RACE", `"msg":"panic"`, "goroutine "}, secrets...) {
		if strings.Contains(log, bad) {
			t.Errorf("got %q in the log, want it without:\n%s", bad, log)
		}
	}
}

// lockedBuffer is the output of a process so far.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.WriteString(line + "\n")
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// installation is a database and a topic, created by the commands of an operator.
type installation struct {
	env map[string]string
	// broker is nil if other tests share it.
	broker *parts.Broker
	topic  string
	// key is the API key of tenant acme.
	key string
	// access is how the test itself connects to the broker; nil is in plain text.
	access *brokers.Access
}

// install sets up an installation on the broker that the tests share.
func install(t *testing.T) *installation {
	t.Helper()
	return installIn(t, parts.EmptyPostgres(t), parts.Kafka(t), nil)
}

// installLocked sets up an installation with locked delivery.
func installLocked(t *testing.T) *installation {
	t.Helper()
	return installIn(t, parts.EmptyPostgres(t), parts.Kafka(t), nil, locked)
}

// locked is the environment of commands in locked delivery. The default is fenced delivery.
var locked = map[string]string{"PAYLATCH_DELIVERY": "locked"}

// installOnOwnBroker sets up an installation with a broker of its own, which the test may stop and
// start.
func installOnOwnBroker(t *testing.T) *installation {
	t.Helper()
	broker := parts.OwnKafka(t)
	if !parts.InDocker(t) {
		// When it stops, the embedded broker does not abort open transactions in its log. A real
		// one does.
		return installIn(t, parts.EmptyPostgres(t), broker.Addr, broker, locked)
	}
	return installIn(t, parts.EmptyPostgres(t), broker.Addr, broker)
}

func installIn(t *testing.T, database, address string, broker *parts.Broker, more ...map[string]string) *installation {
	t.Helper()
	i := &installation{broker: broker, topic: parts.Topic(), env: map[string]string{
		"PAYLATCH_DATABASE_URL": database, "PAYLATCH_KAFKA_BROKERS": address,
		"PAYLATCH_LISTEN": "127.0.0.1:0", "PAYLATCH_ADMIN_LISTEN": "127.0.0.1:0", "PAYLATCH_LOG_LEVEL": "debug",
		"PAYLATCH_SHOW_POSITION": "true",
	}}
	for _, m := range more {
		maps.Copy(i.env, m)
	}
	run(t, i.env, "migrate", "up")
	parts.GrantRoles(t, database)
	run(t, i.env, "partitions", "init", "--topic", i.topic)
	i.key = i.tenant(t, "acme")
	return i
}

// repeatsNothing reports whether each payment must be in the topic once, after any crash.
func (i *installation) repeatsNothing() bool { return i.env["PAYLATCH_DELIVERY"] == "" }

// tenant creates a tenant and returns its key, as printed for an operator.
func (i *installation) tenant(t *testing.T, name string) string {
	t.Helper()
	return lastWord(run(t, i.env, "tenants", "create", name))
}

// launch starts a command of this installation, with additional environment variables.
func (i *installation) launch(t *testing.T, command string, more ...map[string]string) *process {
	t.Helper()
	env := maps.Clone(i.env)
	for _, m := range more {
		maps.Copy(env, m)
	}
	return launch(t, env, command)
}

var errNotYet = errors.New("not yet")

// eventually calls check until it returns nil. When its time is over, the test fails with the last
// error.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	const patience, step = 90 * time.Second, 50 * time.Millisecond
	var err error
	for began := time.Now(); time.Since(began) < patience; time.Sleep(step) {
		err = check()
		if err == nil {
			return
		}
	}
	t.Fatalf("%s: not after %s: %v", what, patience, err)
}
