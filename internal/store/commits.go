package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// errUnconfirmed means that a commit is on the primary, and perhaps on no standby: the wait for the
// standby was cancelled. The outcome is unknown, since a failover may undo the commit.
var errUnconfirmed = fmt.Errorf("%w: the commit was not confirmed by the synchronous standby", payment.ErrUnavailable)

const (
	// slowCommit is the age at which a commit is checked. It is also the time that a request has.
	slowCommit = 5 * time.Second
	// checkCommitsEvery is the interval of the checks.
	checkCommitsEvery = time.Second
	// probeTimeout bounds one check: to connect, and to query.
	probeTimeout = 2 * connectTimeout
)

// commitOn executes statements that commit, on a connection of the pool. It waits for them without
// a bound of its own, whether or not the caller is still there.
//
// A commit may wait as long as its standby is away. If the client abandoned the statement, the
// session and its wait would stay on the server, one more for each attempt. So the connection is
// kept, and counts in the pool. When it is certain that no response will come (see commits), the
// connection is closed and the outcome is unknown.
//
// It returns errUnconfirmed if the server has stopped waiting for the standby.
func commitOn(conn *pgx.Conn, execute func(ctx context.Context) error) error {
	done := stateOf(conn).commits.begin(conn)
	defer done()
	return confirmed(conn, func() error { return execute(context.Background()) })
}

// confirmed executes a commit on a connection. It returns errUnconfirmed if the server reports
// success but has stopped waiting for the standby.
func confirmed(conn *pgx.Conn, commit func() error) error {
	state := stateOf(conn)
	state.warned = false
	err := commit()
	if err == nil && state.warned {
		return errUnconfirmed
	}
	return translate(err)
}

// commits holds the connections that wait for a commit. When one has waited for slowCommit, it asks
// the database over another connection whether the server process still executes it.
//
// No response will come if new connections lead to another incarnation of the database, or if the
// server process is idle or gone. Then the connection is closed. While the database cannot be
// reached, all connections are kept. Safe for concurrent use.
type commits struct {
	probe func(ctx context.Context) (*pgx.Conn, error)

	mu sync.Mutex
	// waiting has the start of the commit of each connection.
	waiting map[*pgx.Conn]time.Time
	// scheduled is true while a check is scheduled or in progress.
	scheduled bool
	closed    bool
	checks    sync.WaitGroup
}

func newCommits(probe func(ctx context.Context) (*pgx.Conn, error)) *commits {
	return &commits{probe: probe, waiting: map[*pgx.Conn]time.Time{}}
}

// begin notes that a commit is in progress on conn, until done is called.
func (c *commits) begin(conn *pgx.Conn) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[conn] = time.Now()
	if c.closed {
		_ = conn.PgConn().Conn().Close()
	} else if !c.scheduled {
		c.scheduled = true
		time.AfterFunc(slowCommit, c.check)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, conn)
	}
}

// check checks the slow commits, and schedules the next check while commits are in progress.
func (c *commits) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.waiting) == 0 {
		c.scheduled = false
		return
	}
	slow := map[*pgx.Conn]time.Time{}
	for conn, since := range c.waiting {
		if time.Since(since) >= slowCommit {
			slow[conn] = since
		}
	}
	c.checks.Go(func() {
		if len(slow) > 0 {
			c.closeDead(slow)
		}
		time.AfterFunc(checkCommitsEvery, c.check)
	})
}

// selectActive returns which server processes execute a statement. PostgreSQL shows the state only
// of sessions of our own role, and those of the pool are.
const selectActive = `select pid from pg_stat_activity where pid = any($1::integer[]) and state = 'active'`

// closeDead closes those of the slow connections on which no response will come.
func (c *commits) closeDead(slow map[*pgx.Conn]time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	probe, err := c.probe(ctx)
	if err != nil {
		return
	}
	defer closeConn(probe)
	pids := make([]int32, 0, len(slow))
	for conn := range slow {
		pids = append(pids, int32(conn.PgConn().PID()))
	}
	rows, err := probe.Query(ctx, selectActive, pids)
	if err != nil {
		return
	}
	active := map[uint32]bool{}
	var pid int32
	if _, err := pgx.ForEachRow(rows, []any{&pid}, func() error {
		active[uint32(pid)] = true
		return nil
	}); err != nil {
		return
	}
	here := stateOf(probe).incarnation
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, since := range slow {
		alive := stateOf(conn).incarnation == here && active[conn.PgConn().PID()]
		if c.waiting[conn].Equal(since) && !alive {
			_ = conn.PgConn().Conn().Close()
		}
	}
}

// close closes the connections that still wait for a commit, and those that begin to. PostgreSQL
// finishes these commits. A client that repeats its request finds the outcome.
func (c *commits) close() {
	c.mu.Lock()
	c.closed = true
	for conn := range c.waiting {
		_ = conn.PgConn().Conn().Close()
	}
	c.mu.Unlock()
	c.checks.Wait()
}
