package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// ownerName is argv[0] of an owner: how Main knows it, and what ps shows.
const ownerName = "paylatch-postgres-owner"

// mainCalled guards StartPostgres. Without Main, the second process would not become an owner but
// do what the first does, and start a third.
var mainCalled atomic.Bool

// Main must be the first call of main, and of TestMain, in every program that starts an embedded
// PostgreSQL. In the process that StartPostgres starts as owner it does the owner's work and exits;
// in every other it returns at once.
func Main() {
	mainCalled.Store(true)
	if os.Args[0] != ownerName {
		return
	}
	// Signals sent to all of us are the parent's to answer; SIGPIPE would otherwise end us at the
	// first line logged to a parent that is gone, before PostgreSQL is stopped. Caught rather than
	// ignored, because children would inherit an ignored signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	runOwner(os.Stdin, os.Stdout, os.Stderr)
	os.Exit(0) // whatever went wrong has been answered
}

// owner holds PostgreSQL for a parent.
type owner struct {
	spec   spec
	log    io.Writer
	lock   *os.File // of the home: an owner may outlive its parent for as long as it stops
	server *server
	// downloaded reports how much of PostgreSQL is downloaded.
	downloaded func(done, total int64)
}

// runOwner starts PostgreSQL, obeys orders until their pipe closes, and stops it.
func runOwner(in io.Reader, out, log io.Writer) {
	var s spec
	orders := json.NewDecoder(in)
	if orders.Decode(&s) != nil {
		return // the parent ended before it said anything
	}
	// The parent may be gone, and there is no other reader.
	respond := func(a answer) { _ = json.NewEncoder(out).Encode(a) }

	ctx, restarts := listen(orders)
	o := &owner{spec: s, log: log, downloaded: func(done, total int64) {
		respond(answer{Download: &download{done, total}})
	}}
	opened, err := o.open(ctx)
	if err != nil {
		err = errors.Join(err, o.close())
		respond(answerOf(err))
		return
	}
	respond(opened)
	for order := range restarts {
		if err := o.server.restart(ctx, order.Immediate); err != nil {
			respond(answerOf(err))
			continue
		}
		respond(answer{})
	}
	if err := o.close(); err != nil {
		respond(answerOf(err))
	}
}

// listen reads orders until there are none to come. The context then ends, so that whatever is
// under way is given up.
func listen(orders *json.Decoder) (context.Context, <-chan restartOrder) {
	ctx, cancel := context.WithCancel(context.Background())
	restarts := make(chan restartOrder)
	go func() {
		defer close(restarts)
		defer cancel()
		for {
			var order restartOrder
			if err := orders.Decode(&order); err != nil {
				return
			}
			// The parent awaits each answer before it sends more, so this blocks only while
			// PostgreSQL is being started.
			restarts <- order
		}
	}()
	return ctx, restarts
}

// open does all from an empty directory to a server that takes connections. Each step finds what an
// interrupted one left.
func (o *owner) open(ctx context.Context) (answer, error) {
	const stopping = ownerStopMax // an earlier owner whose parent was killed may be at it
	var err error
	o.lock, err = waitForLock(ctx, filepath.Join(o.spec.Home, "postgres.owner.lock"), stopping)
	switch {
	case errors.Is(err, ErrLocked):
		return answer{}, faultf(ErrDirInUse, "an earlier PostgreSQL on %s has not stopped yet: wait for it, or "+
			"end the process %s", o.spec.Home, ownerName)
	case err != nil:
		return answer{}, fmt.Errorf("lock of the data: %w", err)
	}
	if err := o.renewScratch(); err != nil {
		return answer{}, err
	}
	bin, err := o.binaries(ctx)
	if err != nil {
		return answer{}, err
	}
	data := &data{home: o.spec.Home, bin: bin, log: o.log}
	if err := data.prepare(ctx); err != nil {
		return answer{}, err
	}
	password, err := data.password()
	if err != nil {
		return answer{}, err
	}
	o.server = &server{bin: bin.dir, data: data.dir(), fsync: o.spec.Fsync, log: o.log}
	if err := o.server.startOn(ctx, o.spec.Port); err != nil {
		return answer{}, err
	}
	return answer{Port: o.server.port, Password: password}, nil
}

// close stops PostgreSQL and removes what is temporary.
func (o *owner) close() error {
	var errs []error
	if o.server != nil {
		errs = append(errs, o.server.stop())
	}
	if o.lock == nil {
		return errors.Join(errs...)
	}
	remove := scratchDir(o.spec.Home)
	if o.spec.Temporary {
		remove = o.spec.Home
	}
	// As root's owner we may not remove a temporary home itself where its parent directory is
	// closed to us; the parent process does.
	if err := os.RemoveAll(remove); err != nil && !errors.Is(err, os.ErrPermission) {
		errs = append(errs, fmt.Errorf("remove %s: %w", remove, err))
	}
	return errors.Join(append(errs, o.lock.Close())...)
}

// scratchDir is for what the library leaves behind: it is emptied at each start, and is the owner's
// TMPDIR.
func scratchDir(home string) string { return filepath.Join(home, "postgres.scratch") }

func (o *owner) renewScratch() error {
	if err := removeAll(scratchDir(o.spec.Home)); err != nil {
		return err
	}
	if err := os.Mkdir(scratchDir(o.spec.Home), 0o700); err != nil {
		return fmt.Errorf("the data need a directory that this user may write: %w", err)
	}
	return nil
}

// binaries finds what PostgreSQL to run: the one given, or else the one fetched.
func (o *owner) binaries(ctx context.Context) (binaries, error) {
	if o.spec.Bin != "" {
		return givenBinaries(ctx, o.spec.Bin)
	}
	network := &network{ctx: ctx, downloaded: o.downloaded}
	// The library uses the default client, which has no time-out and cannot be cancelled; this
	// process has no other use for it.
	http.DefaultClient = &http.Client{Transport: network, Timeout: fetchMax}
	f := &fetch{cache: o.spec.Cache, scratch: scratchDir(o.spec.Home), network: network, log: o.log}
	return f.binaries(ctx)
}

const fetchMax = 5 * time.Minute // some 15 MB

// network is the default transport, ended by a context, and remembers what went wrong: the library
// does not say.
type network struct {
	ctx        context.Context
	downloaded func(done, total int64)
	last       error
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := n.ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	context.AfterFunc(n.ctx, cancel) // the body is read under this context too
	response, err := http.DefaultTransport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		n.last = err
		return nil, err
	}
	const small = 1 << 20 // A checksum.
	if response.ContentLength >= small {
		response.Body = &countedBody{ReadCloser: response.Body, total: response.ContentLength, read: n.downloaded}
	}
	return response, nil
}

// countedBody reports how much of it is read.
type countedBody struct {
	io.ReadCloser
	done, total int64
	reported    time.Time
	read        func(done, total int64)
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	const interval = 100 * time.Millisecond
	n, err := b.ReadCloser.Read(p)
	b.done += int64(n)
	if now := time.Now(); now.Sub(b.reported) >= interval || b.done == b.total && n > 0 {
		b.reported = now
		b.read(b.done, b.total)
	}
	return n, err
}
