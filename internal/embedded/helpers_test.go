package embedded

import (
	"bytes"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// testLog keeps PostgreSQL's log, to be shown if a test fails.
type testLog struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

func (l *testLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.String()
}

// onWrite is a log that calls a function at whatever is written.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// kill ends the owner of p so that it can do nothing any more, and waits until it has ended.
func kill(t *testing.T, p *Postgres) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	lock := p.place.spec.Home + "/postgres.owner.lock"
	await(t, "the owner to end", func() bool {
		f, err := LockFile(lock)
		if err != nil {
			return false
		}
		return f.Close() == nil
	})
}

// await polls until the condition holds. The bound is there for the test to end, not to measure.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func portOf(c *pgx.ConnConfig) string { return itoa(int(c.Port)) }
