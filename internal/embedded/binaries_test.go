package embedded

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// openTempDir is a temporary directory that PostgreSQL's user may enter; the test's own is closed
// to others when root runs it.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embedded-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Binaries from a directory that the user gives; here those that were fetched, by way of a
// directory that is not called bin.
func TestPostgres_GivenBinaries(t *testing.T) {
	t.Parallel()
	p := start(t, PostgresConfig{}) // so that they have been fetched
	name := string(fetchedVersion) + "-" + runtime.GOOS + "-" + runtime.GOARCH
	fetched := filepath.Join(p.place.spec.Cache, name, "dist", "bin")
	if !exists(filepath.Join(fetched, "postgres")) {
		t.Fatalf("nothing was fetched to %s", fetched)
	}
	given := filepath.Join(openTempDir(t), "programs")
	if err := os.Symlink(fetched, given); err != nil {
		t.Fatal(err)
	}
	for _, bin := range []string{fetched, given} {
		dir := t.TempDir()
		first := start(t, PostgresConfig{Dir: dir, Bin: bin, cache: openTempDir(t)})
		execute(t, first.URL(), "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('one')")
		if err := first.Stop(); err != nil {
			t.Fatal(err)
		}
		second := start(t, PostgresConfig{Dir: dir, Bin: bin, cache: openTempDir(t)})
		if got := show(t, second.URL(), kept); got != "one" {
			t.Errorf("%s: got %q", bin, got)
		}
	}
}

func TestPostgres_UnusableBinaries(t *testing.T) {
	t.Parallel()
	// bin makes a directory of programs that answer --version with the script given.
	bin := func(script string, mode os.FileMode) string {
		dir := openTempDir(t)
		for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), mode); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for name, test := range map[string]struct {
		bin  string
		says string
	}{
		"Absent":        {filepath.Join(openTempDir(t), "absent"), "has no initdb"},
		"Empty":         {openTempDir(t), "has no initdb"},
		"NotExecutable": {bin("exit 0", 0o644), "has no initdb"},
		"DoesNotRun":    {bin("echo broken >&2; exit 3", 0o755), "broken"},
		"NotPostgreSQL": {bin("echo mysqld 8.0", 0o755), "mysqld 8.0"},
		"TooOld":        {bin("echo 'postgres (PostgreSQL) 12.22'", 0o755), "12.22"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, PostgresConfig{Bin: test.bin}, ErrBinaries, test.bin, test.says, "--postgres-bin")
		})
	}
}

// No network at the first start, and a fetch that was killed in the middle before: what that one
// left has all the programs, but not the mark that it is complete, so it must be neither run nor
// kept.
func TestPostgres_NoNetwork(t *testing.T) {
	proxy := os.Getenv("HTTPS_PROXY")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // no process listens there
	cache := openTempDir(t)
	dir := t.TempDir()
	refused(t, PostgresConfig{Dir: dir, cache: cache}, ErrFetch,
		"connection refused", "connect to the network once", "--postgres-bin")

	left := filepath.Join(cache, "postgres", string(fetchedVersion)+"-"+runtime.GOOS+"-"+runtime.GOARCH, "dist", "bin")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		if err := os.WriteFile(filepath.Join(left, name), []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// As root, the directory belongs to PostgreSQL's user, as it would after a real fetch.
	if os.Geteuid() == 0 {
		for path := left; path != filepath.Join(cache, "postgres"); path = filepath.Dir(path) {
			chownToOwner(t, path)
		}
	}
	refused(t, PostgresConfig{Dir: dir, cache: cache}, ErrFetch, "connection refused")
	if exists(left) {
		t.Error("what the killed fetch left is still there")
	}
	t.Setenv("HTTPS_PROXY", proxy)     // the real cache may still be empty, on a fresh machine
	start(t, PostgresConfig{Dir: dir}) // the refusals have spoilt nothing
}

func chownToOwner(t *testing.T, path string) {
	t.Helper()
	u, err := unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, int(u.Uid), int(u.Gid)); err != nil {
		t.Fatal(err)
	}
}

func TestLastRelevantLine(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		"":               "",
		"one\n\ntwo\n\n": "two",
		"LOG:  a\nscript ... 2026-11-23 UTC [1] FATAL:  b\nHINT:  c\nLOG:  d\n": "FATAL:  b",
		"running ok\ninitdb: error: could not write: No space left on device\ninitdb: removing contents\n": "" +
			"initdb: error: could not write: No space left on device",
	} {
		if got := lastRelevantLine(output); got != want {
			t.Errorf("%q: got %q, want %q", output, got, want)
		}
	}
}
