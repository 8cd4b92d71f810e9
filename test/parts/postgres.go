package parts

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/paylatch/paylatch/internal/embedded"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
)

// template is a migrated database that the databases of tests are copied from.
const template = "paylatch_template"

// server is the PostgreSQL of this process, which has the template.
var server = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	k, err := choose()
	if err != nil {
		return "", err
	}
	p, end, err := newPostgres(ctx, k, profileTest)
	if end != nil {
		stopAtEnd(end)
	}
	if err != nil {
		return "", err
	}
	if err := execute(ctx, p.URL, "create database "+template); err != nil {
		return "", err
	}
	_, err = store.MigrateUp(ctx, withDatabase(p.URL, template), migrations.FS)
	return p.URL, err
})

// Server is a PostgreSQL of one test, which can be restarted at the same address with its data.
type Server struct {
	// URL is that of an empty database.
	URL     string
	restart func(ctx context.Context, immediate bool) error
	// limit is nil without a container.
	limit func(ctx context.Context, bytes int64) error
}

// Restart restarts the server. An immediate restart is like a crash: committed data is recovered
// from the WAL.
func (s *Server) Restart(t testing.TB, immediate bool) {
	t.Helper()
	if err := s.restart(t.Context(), immediate); err != nil {
		t.Fatal(err)
	}
}

// OwnPostgres starts a PostgreSQL for one test, which may restart it.
func OwnPostgres(t testing.TB) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	s, end, err := newPostgres(ctx, kind(t), profileTest)
	if end != nil {
		t.Cleanup(func() {
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newPostgres(ctx context.Context, kind string, p profile) (*Server, func() error, error) {
	if kind == docker {
		return newDockerPostgres(ctx, p)
	}
	return newEmbeddedPostgres(ctx, p)
}

func newEmbeddedPostgres(ctx context.Context, p profile) (*Server, func() error, error) {
	e, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Fsync: p == profileBench})
	if err != nil {
		return nil, nil, err
	}
	return &Server{URL: e.URL(), restart: e.Restart}, e.Stop, nil
}

func newDockerPostgres(ctx context.Context, p profile) (*Server, func() error, error) {
	settings := []string{"postgres", "-c", "fsync=off", "-c", "max_connections=300"}
	if p == profileBench {
		// See restartServer.
		settings = []string{"sh", "-c", "while :; do docker-entrypoint.sh postgres; sleep 0.1; done"}
	}
	port, err := freePort() // Fixed, so that the server keeps its address over a restart.
	if err != nil {
		return nil, nil, err
	}
	c, err := testcontainers.Run(ctx, "postgres:17",
		testcontainers.WithEnv(map[string]string{
			"POSTGRES_USER": "paylatch", "POSTGRES_PASSWORD": "paylatch",
			"POSTGRES_DB": "paylatch",
		}),
		testcontainers.WithExposedPorts("5432/tcp"),
		testcontainers.WithHostConfigModifier(publish("5432/tcp", port)),
		testcontainers.WithCmd(settings...),
		testcontainers.WithWaitStrategy(wait.ForAll(
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2),
			wait.ForListeningPort("5432/tcp"))),
	)
	end := func() error { return testcontainers.TerminateContainer(c) }
	if err != nil {
		return nil, end, fmt.Errorf("postgres:17: %w", err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if p == profileBench {
		address = ownAddress(ctx, c, "5432", address)
	}
	s := &Server{URL: fmt.Sprintf("postgres://paylatch:paylatch@%s/paylatch?sslmode=disable", address)}
	s.limit = func(ctx context.Context, bytes int64) error { return limitMemory(ctx, c.GetContainerID(), bytes) }
	if p == profileBench {
		s.restart = func(ctx context.Context, _ bool) error { return restartServer(ctx, c, s.URL) }
		return s, end, nil
	}
	s.restart = func(ctx context.Context, immediate bool) error {
		grace := 30 * time.Second
		if immediate {
			grace = 0 // Docker then kills at once.
		}
		if err := c.Stop(ctx, &grace); err != nil {
			return err
		}
		return c.Start(ctx)
	}
	return s, end, nil
}

// restartServer restarts PostgreSQL inside its container, whose command starts it again whenever it
// ends. A container that is restarted may get another address.
func restartServer(ctx context.Context, c testcontainers.Container, url string) error {
	code, out, err := c.Exec(ctx, []string{"pg_ctl", "stop", "--mode", "fast", "--wait"}, exec.WithUser("postgres"))
	if err != nil {
		return err
	}
	if code != 0 {
		text, _ := io.ReadAll(out)
		return fmt.Errorf("pg_ctl stop: exit status %d: %s", code, text)
	}
	const poll = 50 * time.Millisecond
	for {
		err := execute(ctx, url, "select")
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(poll)
	}
}

var databases atomic.Int64

// Postgres returns the URL of a new, migrated database, which is dropped when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	return database(t, " template "+template)
}

// EmptyPostgres returns the URL of a new, empty database, which is dropped when the test ends.
func EmptyPostgres(t testing.TB) string {
	t.Helper()
	return database(t, "")
}

// EmptyPostgresAs is EmptyPostgres with options of CREATE DATABASE.
func EmptyPostgresAs(t testing.TB, options string) string {
	t.Helper()
	return database(t, options)
}

func database(t testing.TB, from string) string {
	t.Helper()
	kind(t)
	url, err := server()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := execute(t.Context(), url, "create database "+name+from); err != nil {
		t.Fatal(err)
	}
	if err := beHostile(t.Context(), url, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execute(context.WithoutCancel(t.Context()), url, "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	return withDatabase(url, name)
}

// templating lets one database at a time be copied. PostgreSQL refuses to copy a template with open
// connections.
var templating sync.Mutex

func execute(ctx context.Context, url, sql string) error {
	if strings.Contains(sql, "template") {
		templating.Lock()
		defer templating.Unlock()
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	if closeErr := conn.Close(ctx); err == nil {
		err = closeErr
	}
	return err
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(err) // Both starters make URLs.
	}
	u.Path = "/" + name
	return u.String()
}
