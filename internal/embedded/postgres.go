// Package embedded runs PostgreSQL and a Kafka broker on one machine, for paylatch-dev and for
// tests, so that neither needs anything installed.
//
// PostgreSQL belongs to an owner: a second process of the same executable (see Main) that fetches
// the binaries once, initialises the data, runs the server as its child and stops it when the pipe
// from us closes. The pipe closes however we end, so PostgreSQL does not outlive a parent killed
// with -9. As root, which PostgreSQL refuses, the owner is another user. The broker runs in our own
// process and ends with it.
//
// Promised: data of a kept directory are never removed, whatever version they are; no two processes
// work on one directory; each error is one sentence that says what to do. Not promised: anything
// beyond loopback and one machine. This package needs flock, process groups and uids, and so a
// Unix.
package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

const (
	roleName     = "paylatch"
	databaseName = "paylatch"

	// ownerStopMax is how long an owner may take to stop: the server's own escalation (fastStopMax
	// and what follows) plus the step it may be in the middle of, the longest of which is the
	// library's pg_ctl start with its 60 s. Then the owner is killed.
	ownerStopMax = 3 * time.Minute
)

// PostgresConfig says which PostgreSQL to run and where.
type PostgresConfig struct {
	Dir   string    // where the data is kept across restarts; "" = a temporary one that Stop removes
	Bin   string    // directory with initdb, pg_ctl and postgres; "" = fetched once and kept in a cache
	Port  int       // on 127.0.0.1; 0 = any free one
	Fsync bool      // false only where losing the data with the power is no loss: tests, --ephemeral
	Log   io.Writer // PostgreSQL's own log; nil = nowhere

	// OnDownload is called while PostgreSQL is downloaded, some ten times a second, with the bytes
	// done and in all; nil = never.
	OnDownload func(done, total int64)

	cache string // for tests of the fetch: another cache for the binaries than the user's
}

// Postgres is a running PostgreSQL. Its methods may be called by several goroutines; they run one
// after another.
type Postgres struct {
	url   string
	place *place
	cmd   *exec.Cmd
	stdin io.WriteCloser

	onDownload func(done, total int64)

	mu      sync.Mutex
	answers *json.Decoder
	stopped bool
	stopErr error
}

// StartPostgres starts an owner, which starts PostgreSQL, and returns once it takes connections. If
// it returns an error, or if ctx ends first, nothing is left running; data already in c.Dir stay as
// they were.
func StartPostgres(ctx context.Context, c PostgresConfig) (*Postgres, error) {
	if !mainCalled.Load() {
		return nil, errors.New("embedded.Main was not called: make it the first call of main, or of TestMain")
	}
	pl, err := findPlace(c)
	if err != nil {
		return nil, err
	}
	p, err := startOwner(pl, c.Log)
	if err != nil {
		return nil, errors.Join(err, pl.leave())
	}
	p.onDownload = c.OnDownload
	a, err := p.request(ctx, pl.spec)
	if err == nil {
		err = ctx.Err() // it ended together with the answer
	}
	if err != nil {
		// What the owner said is the cause; that it then ended is no news.
		_ = p.Stop()
		return nil, err
	}
	p.url = fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", roleName, a.Password, a.Port, databaseName)
	return p, nil
}

// startOwner starts this executable again as the owner. The copy made for another user is removed
// as soon as it runs: the kernel keeps the file for as long as the process lives.
func startOwner(pl *place, log io.Writer) (*Postgres, error) {
	path, remove, err := pl.executable()
	if err != nil {
		return nil, err
	}
	defer remove()

	cmd := exec.Command(path)
	cmd.Args = []string{ownerName}
	cmd.Dir = pl.spec.Home // ours may be closed to the owner's user, and initdb insists on knowing where it is
	cmd.Env = pl.environment()
	cmd.SysProcAttr = pl.processAttributes()
	cmd.Stderr = log
	cmd.WaitDelay = 10 * time.Second // for a grandchild that still holds stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to the owner of PostgreSQL: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe from the owner of PostgreSQL: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the process that owns PostgreSQL could not be started from %s: %w", path, err)
	}
	return &Postgres{place: pl, cmd: cmd, stdin: stdin, answers: json.NewDecoder(stdout)}, nil
}

// URL is what to connect with. The role is a superuser, so that tests can make databases of their
// own.
func (p *Postgres) URL() string { return p.url }

// Restart stops and starts PostgreSQL on the same port and data; immediate stops it as a crash
// would, so that it recovers from its log. If ctx ends first, PostgreSQL is stopped for good: half
// a restart is no state to leave behind.
func (p *Postgres) Restart(ctx context.Context, immediate bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return errors.New("PostgreSQL is stopped already: start it instead of restarting it")
	}
	_, err := p.request(ctx, restartOrder{Immediate: immediate})
	return err
}

// Stop ends PostgreSQL cleanly and waits for it; temporary data are removed. Further calls return
// what the first one did.
func (p *Postgres) Stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return p.stopErr
	}
	p.stopped = true

	kill := time.AfterFunc(ownerStopMax, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.stdin.Close() // already closed when a context ended; it is the sign to stop either way
	_, said := p.read()
	if errors.Is(said, errOwnerEnded) {
		said = nil // its exit status, below, says whether that was in order
	}
	ended := p.cmd.Wait()
	if ended != nil {
		ended = fmt.Errorf("the process that owns PostgreSQL ended badly (%w): the next start on this directory "+
			"puts it right", ended)
	}
	p.stopErr = errors.Join(said, ended, p.place.leave())
	return p.stopErr
}

// request sends the owner one line and waits for its response.
func (p *Postgres) request(ctx context.Context, order any) (answer, error) {
	type reply struct {
		answer answer
		err    error
	}
	if err := json.NewEncoder(p.stdin).Encode(order); err != nil {
		return answer{}, errors.Join(errOwnerEnded, err)
	}
	replies := make(chan reply, 1)
	go func() {
		a, err := p.read()
		replies <- reply{a, err}
	}()
	select {
	case r := <-replies:
		return r.answer, r.err
	case <-ctx.Done():
		_ = p.stdin.Close()
		kill := time.AfterFunc(ownerStopMax, func() { _ = p.cmd.Process.Kill() })
		defer kill.Stop()
		<-replies
		return answer{}, fmt.Errorf("PostgreSQL was stopped while it was being started: %w", context.Cause(ctx))
	}
}

// read returns the next answer, and reports the events before it.
func (p *Postgres) read() (answer, error) {
	for {
		var a answer
		if err := p.answers.Decode(&a); err != nil {
			return answer{}, errOwnerEnded
		}
		if a.Download == nil {
			return a, a.err()
		}
		if p.onDownload != nil {
			p.onDownload(a.Download.Done, a.Download.Total)
		}
	}
}
