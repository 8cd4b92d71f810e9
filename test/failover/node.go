package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/test/harness"
)

// password is that of databases that live for minutes, on the loopback interface.
const password = "failover"

const (
	// queryTimeout bounds one statement of the test, nodeTimeout the start of a server.
	queryTimeout = 20 * time.Second
	nodeTimeout  = 2 * time.Minute
)

// node is a PostgreSQL server in a container, with its data in a volume of its own. It is on two
// networks: one for clients, and one for replication, which can be taken away alone.
type node struct {
	container   string // Also the volume's name.
	clients     string // Network.
	replication string // Network; on it the node has the name alias.
	alias       string
	port        int // Published on this machine.

	detached, paused bool
}

// create makes the container on the node's volume. Time-outs of replication are short, so that a
// standby that comes back is noticed soon. The name of a standby at its primary is its alias.
func (n *node) create(ctx context.Context) error {
	_, err := harness.Docker(ctx, "create", "--name", n.container, "--network", n.clients, "--shm-size", "256m",
		"--volume", n.container+":/var/lib/postgresql/data", "--publish", harness.Address(n.port)+":5432",
		"--env", "POSTGRES_USER=paylatch", "--env", "POSTGRES_PASSWORD="+password, "--env", "POSTGRES_DB=paylatch",
		"postgres:17", "-c", "max_connections=300", "-c", "wal_keep_size=256MB", "-c", "wal_sender_timeout=5s",
		"-c", "wal_receiver_timeout=5s", "-c", "wal_retrieve_retry_interval=200ms")
	if err != nil {
		return err
	}
	return n.attach(ctx)
}

// attach connects the node to the replication network.
func (n *node) attach(ctx context.Context) error {
	n.detached = false
	_, err := harness.Docker(ctx, "network", "connect", "--alias", n.alias, n.replication, n.container)
	return err
}

// detach takes the node off the replication network. What is under way there is lost.
func (n *node) detach(ctx context.Context) error {
	n.detached = true
	_, err := harness.Docker(ctx, "network", "disconnect", n.replication, n.container)
	return err
}

// start starts the server and waits until it accepts connections.
func (n *node) start(ctx context.Context) error {
	if err := harness.Start(ctx, n.container); err != nil {
		return err
	}
	return n.await(ctx, "accepts connections", `select true`)
}

// kill ends the server as the loss of its machine does, but for the page cache.
func (n *node) kill(ctx context.Context) error {
	_, err := harness.Docker(ctx, "kill", "--signal", "KILL", n.container)
	return err
}

// shutDown is a fast shutdown: the server ends its sessions, and sends all WAL to its standby.
func (n *node) shutDown(ctx context.Context) error {
	if _, err := harness.Docker(ctx, "kill", "--signal", "INT", n.container); err != nil {
		return err
	}
	code, err := harness.Docker(ctx, "wait", n.container)
	if err == nil && code != "0" {
		err = fmt.Errorf("PostgreSQL ended with exit code %s", code)
	}
	return err
}

// freeze takes the node's network of replication away, so that no WAL reaches its buffers, and then
// its processor. On a busy machine Docker may need several attempts to freeze all processes.
func (n *node) freeze(ctx context.Context) (err error) {
	if err := n.detach(ctx); err != nil {
		return err
	}
	for range 10 {
		_, err = harness.Docker(ctx, "pause", n.container)
		if err == nil || ctx.Err() != nil {
			n.paused = true
			return err
		}
		harness.Pause(ctx, 250*time.Millisecond)
	}
	return err
}

// thaw lets a frozen node go on. It stays detached.
func (n *node) thaw(ctx context.Context) error {
	if !n.paused {
		return nil
	}
	n.paused = false
	_, err := harness.Docker(ctx, "unpause", n.container)
	return err
}

// copyFrom replaces the node's data with a base backup of a primary, to become its standby.
func (n *node) copyFrom(ctx context.Context, primary *node) error {
	if _, err := harness.Docker(ctx, "rm", "--force", n.container); err != nil {
		return err
	}
	from := fmt.Sprintf("host=%s user=paylatch application_name=%s", primary.alias, n.alias)
	_, err := harness.Docker(ctx, "run", "--rm", "--name", n.container+"-copy", "--network", n.replication,
		"--volume", n.container+":/var/lib/postgresql/data", "--env", "PGPASSWORD="+password,
		"--entrypoint", "sh", "postgres:17", "-c",
		`rm -rf "$PGDATA"/* && pg_basebackup -d '`+from+`' -D "$PGDATA" -R -X stream -c fast`)
	if err != nil {
		return err
	}
	return n.create(ctx)
}

// connect opens a connection past all links, as the superuser.
func (n *node) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("postgres://paylatch:%s@%s/paylatch?sslmode=disable&connect_timeout=10",
		password, harness.Address(n.port)))
}

// exec runs statements, each as a transaction of its own.
func (n *node) exec(ctx context.Context, statements ...string) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// query returns the rows of a statement.
func query[T any](ctx context.Context, n *node, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := n.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// one returns the one value of a statement.
func one[T any](ctx context.Context, n *node, sql string, args ...any) (v T, err error) {
	all, err := query(ctx, n, pgx.RowTo[T], sql, args...)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%d rows, want 1: %s", len(all), sql)
	}
	if err != nil {
		return v, err
	}
	return all[0], nil
}

// await waits until a statement returns true.
func (n *node) await(ctx context.Context, what, sql string) error {
	return harness.Eventually(ctx, nodeTimeout, n.container+" "+what,
		func(ctx context.Context) error { return harness.Holds(one[bool](ctx, n, sql)) })
}

// timeline returns the timeline that a primary writes.
func (n *node) timeline(ctx context.Context) (string, error) {
	return one[string](ctx, n, `select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`)
}
