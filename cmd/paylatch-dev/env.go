package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/embedded"
)

// addresses are what a user of the running demo needs.
type addresses struct {
	PID      int
	API      string
	Admin    string
	Kafka    string
	Postgres string
	Key      string
}

// files are the lock of the demo's directory, and next to it the addresses of the demo that holds
// the lock.
type files struct {
	lock *os.File
	path string // Of the addresses.
}

func lockPath(dir string) string      { return filepath.Join(dir, "demo.lock") }
func addressesPath(dir string) string { return filepath.Join(dir, "demo.json") }

// lock reserves the directory for this process, or says which demo has it.
func lock(dir string) (*files, error) {
	const needed = "the demo needs a directory that this user may write: %w"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf(needed, err)
	}
	l, err := embedded.LockFile(lockPath(dir))
	if errors.Is(err, embedded.ErrLocked) {
		return nil, errRunning(dir)
	}
	if err != nil {
		return nil, fmt.Errorf(needed, err)
	}
	f := &files{lock: l, path: addressesPath(dir)}
	if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) { // Of a demo that was killed.
		return nil, errors.Join(err, l.Close())
	}
	return f, nil
}

// errRunning describes the demo that has the directory.
func errRunning(dir string) error {
	which := "it is starting"
	if a, err := readAddresses(dir); err == nil {
		which = fmt.Sprintf("process %d, %s", a.PID, a.API)
	}
	return fmt.Errorf("the demo is running already on %s (%s): use it, or stop it with Ctrl-C; "+
		"for a second one give --data, --listen and --kafka-listen", dir, which)
}

// write records the addresses, which hold the database's password.
func (f *files) write(a addresses) error {
	a.PID = os.Getpid()
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	temporary := f.path + ".new" // `env` may read at any moment.
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, f.path)
}

// close removes the addresses and ends the lock. The directory may be gone already.
func (f *files) close() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, f.lock.Close())
	}
	return f.lock.Close()
}

func readAddresses(dir string) (a addresses, err error) {
	text, err := os.ReadFile(addressesPath(dir))
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(text, &a)
}

type envCommand struct{ dataSettings }

// Help is printed by env --help.
func (c *envCommand) Help() string {
	return `Use it like this:

    eval "$(paylatch-dev env)"
    paylatch partitions list`
}

// Run prints export lines for a shell.
func (c *envCommand) Run(out cli.Output) error {
	a, err := running(c.Data)
	if err != nil {
		return err
	}
	return printExports(out.Stdout, a)
}

// running returns the addresses of the demo that runs on the directory.
func running(dir string) (a addresses, err error) {
	l, err := os.OpenFile(lockPath(dir), os.O_RDWR, 0)
	if err == nil {
		_ = l.Close()
		l, err = embedded.LockFile(lockPath(dir))
	}
	switch {
	case err == nil:
		return a, errors.Join(fmt.Errorf("no demo is running on %s: start it with `make run`", dir), l.Close())
	case errors.Is(err, os.ErrNotExist):
		return a, fmt.Errorf("no demo is running on %s: start it with `make run`", dir)
	case !errors.Is(err, embedded.ErrLocked):
		return a, err
	}
	a, err = readAddresses(dir)
	if errors.Is(err, os.ErrNotExist) {
		return a, fmt.Errorf("the demo on %s is starting: try again when it has printed `ready`", dir)
	}
	return a, err
}

func printExports(w io.Writer, a addresses) error {
	_, err := fmt.Fprintf(w, "export PAYLATCH_DATABASE_URL=%s\nexport PAYLATCH_KAFKA_BROKERS=%s\n"+
		"export PAYLATCH_SERVER=%s\nexport PAYLATCH_API_KEY=%s\n",
		quoted(a.Postgres), quoted(a.Kafka), quoted(a.API), quoted(a.Key))
	return err
}

// quoted returns s as one word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
