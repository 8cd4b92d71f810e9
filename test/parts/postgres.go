package parts

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/paylatch/paylatch/internal/embedded"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
)

// template is a migrated database that the tests' own are copied from.
const template = "paylatch_template"

// server is the PostgreSQL of this process, with the template in it.
var server = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	k, err := choose()
	if err != nil {
		return "", err
	}
	start := startEmbeddedPostgres
	if k == docker {
		start = startDockerPostgres
	}
	url, err := start(ctx)
	if err != nil {
		return "", err
	}
	if err := execute(ctx, url, "create database "+template); err != nil {
		return "", err
	}
	_, err = store.MigrateUp(ctx, withDatabase(url, template), migrations.FS)
	return url, err
})

func startEmbeddedPostgres(ctx context.Context) (string, error) {
	p, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{})
	if err != nil {
		return "", err
	}
	stopAtEnd(p.Stop)
	return p.URL(), nil
}

func startDockerPostgres(ctx context.Context) (string, error) {
	c, err := testcontainers.Run(ctx, "postgres:17",
		testcontainers.WithEnv(map[string]string{"POSTGRES_USER": "paylatch", "POSTGRES_PASSWORD": "paylatch", "POSTGRES_DB": "paylatch"}),
		testcontainers.WithExposedPorts("5432/tcp"),
		testcontainers.WithCmd("postgres", "-c", "fsync=off", "-c", "max_connections=300"),
		testcontainers.WithWaitStrategy(wait.ForAll(
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2), wait.ForListeningPort("5432/tcp"))),
	)
	if c != nil {
		stopAtEnd(func() error { return testcontainers.TerminateContainer(c) })
	}
	if err != nil {
		return "", fmt.Errorf("postgres:17: %w", err)
	}
	address, err := c.PortEndpoint(ctx, "5432/tcp", "")
	return "postgres://paylatch:paylatch@" + address + "/paylatch?sslmode=disable", err
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
	t.Cleanup(func() {
		if err := execute(context.WithoutCancel(t.Context()), url, "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	return withDatabase(url, name)
}

// templating lets one database at a time be copied: PostgreSQL refuses to copy a template that somebody uses.
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
