package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// errUnconfirmed says that a commit is on the primary and perhaps on no standby: the wait for it
// was cancelled. The outcome is unknown, since a failover may undo it.
var errUnconfirmed = fmt.Errorf("%w: the commit was not confirmed by the synchronous standby", payment.ErrUnavailable)

const (
	// slowCommit is after how long a commit is looked at. A request has as long.
	slowCommit = 5 * time.Second
	// lookAtCommitsEvery paces that, and probeTimeout bounds it: to connect, and to query.
	lookAtCommitsEvery = time.Second
	probeTimeout       = 2 * connectTimeout
)

// commitOn executes statements that commit on a connection of the pool, and waits for them without
// a bound of its own, whatever becomes of the caller. A commit may wait for a standby for as long
// as that is away. To give the statement up would leave the session, with its wait, to the server,
// and one more for each attempt; so the connection is kept, and counts in the pool. When it is
// certain that no response will come (see commits) the connection is closed and the outcome is
// unknown.
//
// errUnconfirmed when the server has stopped waiting.
func commitOn(conn *pgx.Conn, execute func(ctx context.Context) error) error {
	done := stateOf(conn).commits.begin(conn)
	defer done()
	return confirmed(conn, func() error { return execute(context.Background()) })
}

// confirmed executes what commits on a connection: errUnconfirmed when the server reports success,
// but has stopped waiting for the standby.
func confirmed(conn *pgx.Conn, commit func() error) error {
	state := stateOf(conn)
	state.warned = false
	err := commit()
	if err == nil && state.warned {
		return errUnconfirmed
	}
	return translate(err)
}

// commits knows the connections that wait for a commit. When one has waited for slowCommit it asks
// the database, over another connection, whether the server still works on it: if new connections
// lead to another incarnation of the database, or the server process does nothing, no response will
// come, and the connection is closed. While the database cannot be reached nothing is known, and
// all are kept. Safe for concurrent use.
type commits struct {
	probe func(ctx context.Context) (*pgx.Conn, error)

	mu sync.Mutex
	// Since when.
	waiting map[*pgx.Conn]time.Time
	looking bool
	closed  bool
	looks   sync.WaitGroup
}

func newCommits(probe func(ctx context.Context) (*pgx.Conn, error)) *commits {
	return &commits{probe: probe, waiting: map[*pgx.Conn]time.Time{}}
}

// begin notes that a commit is under way on conn, until done is called.
func (c *commits) begin(conn *pgx.Conn) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[conn] = time.Now()
	if c.closed {
		_ = conn.PgConn().Conn().Close()
	} else if !c.looking {
		c.looking = true
		time.AfterFunc(slowCommit, c.look)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, conn)
	}
}

// look looks at the slow commits, and again later while commits are under way.
func (c *commits) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.waiting) == 0 {
		c.looking = false
		return
	}
	slow := map[*pgx.Conn]time.Time{}
	for conn, since := range c.waiting {
		if time.Since(since) >= slowCommit {
			slow[conn] = since
		}
	}
	c.looks.Go(func() {
		if len(slow) > 0 {
			c.closeDead(slow)
		}
		time.AfterFunc(lookAtCommitsEvery, c.look)
	})
}

// Only sessions of our own role have a state that we may see; those of the pool are.
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
		pids = append(pids, int32(conn.PgConn().PID())) //nolint:gosec // G115: a process id.
	}
	rows, err := probe.Query(ctx, selectActive, pids)
	if err != nil {
		return
	}
	active := map[uint32]bool{}
	var pid int32
	if _, err := pgx.ForEachRow(rows, []any{&pid}, func() error {
		active[uint32(pid)] = true //nolint:gosec // G115: a process id is positive.
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

// close closes the connections that still wait, and those that begin to: PostgreSQL finishes these
// commits, and whoever asks again finds what became of them.
func (c *commits) close() {
	c.mu.Lock()
	c.closed = true
	for conn := range c.waiting {
		_ = conn.PgConn().Conn().Close()
	}
	c.mu.Unlock()
	c.looks.Wait()
}
