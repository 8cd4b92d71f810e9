package embedded

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startMost bounds a start in a test: the first one on a machine fetches PostgreSQL.
const startMost = 5 * time.Minute

func start(t *testing.T, c PostgresConfig) *Postgres {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startMost)
	defer cancel()
	log := &testLog{}
	c.Log = log
	p, err := StartPostgres(ctx, c)
	if err != nil {
		t.Fatalf("start: %v\n%s", err, log.text())
	}
	t.Cleanup(func() {
		_ = p.Stop() // tests that care have stopped it and looked
		if home := p.place.spec.Home; home != c.Dir {
			_ = os.RemoveAll(home) // as root, kept data lie outside the test's directory
		}
		if t.Failed() {
			t.Logf("PostgreSQL's log:\n%s", log.text())
		}
	})
	return p
}

// refused starts what must not start, and checks that the refusal is of the kind, is one line, and
// says what it must.
func refused(t *testing.T, c PostgresConfig, kind error, says ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startMost)
	defer cancel()
	p, err := StartPostgres(ctx, c)
	if err == nil {
		_ = p.Stop()
		t.Fatal("started")
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("error %q is not %q", err, kind)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error is not one line: %q", err)
	}
	for _, word := range says {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
	t.Logf("refused: %v", err)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn := connect(t, url)
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	_ = conn.Close(context.Background())
}

func show(t *testing.T, url, sql string) string {
	t.Helper()
	conn := connect(t, url)
	var value string
	if err := conn.QueryRow(context.Background(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	_ = conn.Close(context.Background())
	return value
}

const kept = "SELECT string_agg(word, ' ' ORDER BY word) FROM kept"

// What is committed is there after a stop and a start, after a restart, and after a restart as by a
// crash, which this proves to be one: the unlogged table is empty after a recovery only.
func TestPostgres_DataAreKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, PostgresConfig{Dir: dir, Fsync: true})
	execute(t, p.URL(), "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('one')")
	execute(t, p.URL(), "CREATE UNLOGGED TABLE lost (word text); INSERT INTO lost VALUES ('x')")

	url := p.URL()
	if err := p.Restart(context.Background(), false); err != nil {
		t.Fatalf("restart: %v", err)
	}
	if p.URL() != url {
		t.Errorf("URL after restart %s, before %s", p.URL(), url)
	}
	if got := show(t, url, "SELECT count(*)::text FROM lost"); got != "1" {
		t.Errorf("a clean restart recovered: %s unlogged rows", got)
	}
	execute(t, url, "INSERT INTO kept VALUES ('two')")
	if err := p.Restart(context.Background(), true); err != nil {
		t.Fatalf("restart as by a crash: %v", err)
	}
	if got := show(t, url, "SELECT count(*)::text FROM lost"); got != "0" {
		t.Errorf("the immediate restart was no crash: %s unlogged rows", got)
	}
	if got := show(t, url, kept); got != "one two" {
		t.Errorf("after restarts: %q", got)
	}

	for range 2 {
		if err := p.Stop(); err != nil {
			t.Fatalf("stop: %v", err)
		}
	}
	if err := p.Restart(context.Background(), false); err == nil {
		t.Error("a stopped PostgreSQL was restarted")
	}
	again := start(t, PostgresConfig{Dir: dir, Fsync: true})
	if got := show(t, again.URL(), kept); got != "one two" {
		t.Errorf("after stop and start: %q", got)
	}
}

func TestPostgres_Settings(t *testing.T) {
	t.Parallel()
	for _, fsync := range []string{"on", "off"} {
		p := start(t, PostgresConfig{Fsync: fsync == "on"})
		for name, want := range map[string]string{
			"fsync": fsync, "full_page_writes": fsync, "synchronous_commit": "on", "listen_addresses": "127.0.0.1",
			"unix_socket_directories": "", "max_connections": "200", "timezone": "UTC", "server_encoding": "UTF8",
		} {
			if got := show(t, p.URL(), "SHOW "+name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		const query = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
		if got := show(t, p.URL(), query); got != "C" {
			t.Errorf("locale is %q", got)
		}
	}
}

// Temporary data leave nothing behind.
func TestPostgres_Temporary(t *testing.T) {
	t.Parallel()
	p := start(t, PostgresConfig{})
	home := p.place.spec.Home
	if !exists(home) {
		t.Fatalf("no data in %s", home)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if exists(home) {
		t.Errorf("%s is left", home)
	}
}

// The parent is killed with -9 and can do nothing any more. PostgreSQL and its temporary data must
// go all the same.
func TestPostgres_ParentKilled(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), helperEnv+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var said []string
	for len(said) < 2 && lines.Scan() {
		said = append(said, lines.Text())
	}
	if len(said) < 2 {
		_ = parent.Wait()
		t.Fatalf("the parent says %q", said)
	}
	url, home := said[0], said[1]
	if got := show(t, url, "SELECT 'here'"); got != "here" {
		t.Fatalf("got %q", got)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // "signal: killed"

	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "PostgreSQL to be gone", func() bool { return !exists(home) })
	if conn, err := net.DialTimeout("tcp", net.JoinHostPort(config.Host, portOf(config)), time.Second); err == nil {
		_ = conn.Close()
		t.Error("PostgreSQL still takes connections")
	}
}

// The owner itself is killed with -9, so that PostgreSQL runs on with no process to stop it. The
// next start on the directory does, and finds what was committed.
func TestPostgres_OwnerKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, PostgresConfig{Dir: dir, Fsync: true})
	execute(t, p.URL(), "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('one')")
	kill(t, p)
	if got := show(t, p.URL(), kept); got != "one" {
		t.Fatalf("PostgreSQL was to run on without its owner; got %q", got)
	}
	if err := p.Stop(); err == nil {
		t.Error("Stop does not say that the owner was killed")
	}
	again := start(t, PostgresConfig{Dir: dir, Fsync: true})
	if got := show(t, again.URL(), kept); got != "one" {
		t.Errorf("got %q", got)
	}
	if _, err := pgx.Connect(context.Background(), p.URL()); err == nil {
		t.Error("the first PostgreSQL still runs")
	}
}

// As after a power cut in a container: postmaster.pid names a process that lives and has nothing to
// do with it.
func TestPostgres_PidOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, PostgresConfig{Dir: dir})
	other := exec.Command("sleep", "600")
	other.SysProcAttr = p.place.processAttributes() // the same user: PostgreSQL ignores the processes of others
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	file := filepath.Join(dir, "postgres", "postmaster.pid")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	if err := os.WriteFile(file, []byte(itoa(other.Process.Pid)+"\n"+rest), 0o644); err != nil {
		t.Fatal(err)
	}
	again := start(t, PostgresConfig{Dir: dir})
	if got := show(t, again.URL(), "SELECT 'here'"); got != "here" {
		t.Errorf("got %q", got)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other was ended: %v", err)
	}
}

// The library would remove data of another version. They must be refused and left as they are.
func TestPostgres_OtherVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, PostgresConfig{Dir: dir, Fsync: true})
	execute(t, p.URL(), "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('one')")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "postgres", "PG_VERSION")
	write := func(version string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(version+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []string{"17", "1", "19"} { // "1": the library compares by prefix
		write(other)
		refused(t, PostgresConfig{Dir: dir}, ErrOtherVersion, "written by PostgreSQL "+other+" ", "--postgres-bin")
	}
	write("18")
	again := start(t, PostgresConfig{Dir: dir, Fsync: true})
	if got := show(t, again.URL(), kept); got != "one" {
		t.Errorf("got %q", got)
	}
}

// Files that are not PostgreSQL's are refused and left, too.
func TestPostgres_NotData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, PostgresConfig{Dir: dir})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(dir, "postgres", "PG_VERSION")
	if err := os.Remove(version); err != nil {
		t.Fatal(err)
	}
	refused(t, PostgresConfig{Dir: dir}, ErrOtherVersion, "holds no data of PostgreSQL")
	if !exists(filepath.Join(dir, "postgres", "base")) {
		t.Error("the files are gone")
	}
}

// An initialisation that was cut off has left half a data directory. It holds nothing of a user,
// and is made again.
func TestPostgres_InitialisationCutOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, PostgresConfig{Dir: dir})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	d := &data{home: p.place.spec.Home}
	marked := os.WriteFile(d.unfinished(), nil, 0o600)
	if err := errors.Join(marked, removeAll(filepath.Join(d.dir(), "base"))); err != nil {
		t.Fatal(err)
	}
	again := start(t, PostgresConfig{Dir: dir})
	if got := show(t, again.URL(), "SELECT 'here'"); got != "here" {
		t.Errorf("got %q", got)
	}
	if exists(d.unfinished()) {
		t.Error("the mark is left")
	}
}

func TestPostgres_PortInUse(t *testing.T) {
	t.Parallel()
	taken, err := listenFree("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).Port
	refused(t, PostgresConfig{Port: port}, ErrPortInUse, itoa(port), "choose another")
}

func TestPostgres_DirInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, PostgresConfig{Dir: dir})
	refused(t, PostgresConfig{Dir: dir}, ErrDirInUse, dir, "another directory")
	if got := show(t, p.URL(), "SELECT 'here'"); got != "here" {
		t.Errorf("the first one suffered: %q", got)
	}
}

func TestPostgres_UnusableDir(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, PostgresConfig{Dir: filepath.Join(file, "data")}, nil, "a directory that this user may write")
}

// A start given up, before it and in its middle, leaves no process, and what it leaves on disk is
// started from.
func TestPostgres_StartCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ended, end := context.WithCancel(context.Background())
	end()
	cancelled(t, ended, PostgresConfig{Dir: dir})
	middle, end := context.WithCancel(context.Background())
	defer end()
	// The first that the owner logs comes from the initialisation.
	cancelled(t, middle, PostgresConfig{Dir: dir, Log: onWrite(end)})
	p := start(t, PostgresConfig{Dir: dir})
	if got := show(t, p.URL(), "SELECT 'here'"); got != "here" {
		t.Errorf("got %q", got)
	}
}

func cancelled(t *testing.T, ctx context.Context, c PostgresConfig) {
	t.Helper()
	p, err := StartPostgres(ctx, c)
	if err == nil {
		_ = p.Stop()
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	if exists(filepath.Join(c.Dir, "postgres", "postmaster.pid")) {
		t.Error("PostgreSQL was left running")
	}
}

// A signal to all of us, as from Ctrl-C, is the parent's to answer: the owner must hold PostgreSQL
// until the parent is done with it.
func TestPostgres_SignalsAreTheParents(t *testing.T) {
	t.Parallel()
	p := start(t, PostgresConfig{})
	owner := p.cmd.Process.Pid
	if group, err := syscall.Getpgid(owner); err != nil || group != owner {
		t.Errorf("the owner is in process group %d (%v), not in its own", group, err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		if err := p.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Restart(context.Background(), false); err != nil { // goes through the owner, after the signals
		t.Fatalf("after signals: %v", err)
	}
	if got := show(t, p.URL(), "SELECT 'here'"); got != "here" {
		t.Errorf("got %q", got)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// Without Main, each process would start another. The test runs before the parallel ones resume, so
// no other test sees the flag.
func TestPostgres_WithoutMain(t *testing.T) {
	mainCalled.Store(false)
	defer mainCalled.Store(true)
	refused(t, PostgresConfig{}, nil, "Main was not called")
}
