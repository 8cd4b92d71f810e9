// Package parts gives tests a real PostgreSQL and a real Kafka broker: official containers through
// testcontainers where a Docker daemon answers, embedded ones elsewhere. PAYLATCH_TEST_PARTS=docker
// demands containers, =embedded forbids them. A part that cannot be had fails the test; nothing is
// skipped.
//
// Each test owns its database and its topic, so that tests run in parallel and judge whole tables
// and whole logs.
package parts

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"go.uber.org/goleak"

	"github.com/paylatch/paylatch/internal/embedded"
)

// startTimeout bounds the start of one part, a first fetch of its binaries included.
const startTimeout = 3 * time.Minute

// Kinds of parts.
const (
	docker      = "docker"
	embeddedOne = "embedded"
)

// choose decides, once per process, which kind of parts this run has.
var choose = sync.OnceValues(func() (string, error) {
	switch demand := os.Getenv("PAYLATCH_TEST_PARTS"); demand {
	case embeddedOne:
		return embeddedOne, nil
	case docker, "":
		err := dockerAnswers()
		if err == nil {
			return docker, nil
		}
		if demand == docker {
			return "", fmt.Errorf("PAYLATCH_TEST_PARTS demands Docker: %w", err)
		}
		return embeddedOne, nil
	default:
		return "", fmt.Errorf("PAYLATCH_TEST_PARTS is %q; it may be docker, embedded or unset", demand)
	}
})

// dockerAnswers asks the daemon; testcontainers finds it by the usual environment.
func dockerAnswers() (err error) {
	defer func() { // testcontainers panics where there is no socket at all.
		if p := recover(); p != nil {
			err = fmt.Errorf("no Docker: %v", p)
		}
	}()
	// A reaper of this process's own: packages that test at once share one otherwise, and fail when
	// they start it together.
	const session = "TESTCONTAINERS_SESSION_ID"
	if os.Getenv(session) == "" {
		if err := os.Setenv(session, uuid.NewString()); err != nil {
			return err
		}
	}
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, pingErr := provider.Client().Ping(ctx, client.PingOptions{})
	closeErr := provider.Close()
	if pingErr != nil {
		return pingErr
	}
	return closeErr
}

// Kind returns the kind of parts that this run has, docker or embedded; an error when containers
// are demanded and cannot be had.
func Kind() (string, error) { return choose() }

// InDocker tells whether the parts are containers: a real broker, then.
func InDocker(t testing.TB) bool {
	t.Helper()
	return kind(t) == docker
}

// kind returns the chosen kind of parts.
func kind(t testing.TB) string {
	t.Helper()
	k, err := choose()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	stopsMu sync.Mutex
	stops   []func() error // Of what is shared by the tests of this process; undone in reverse.
)

func stopAtEnd(stop func() error) {
	stopsMu.Lock()
	defer stopsMu.Unlock()
	stops = append(stops, stop)
}

// Main is the TestMain of packages that use parts: it runs the tests, stops what they shared, and
// finds goroutines that nobody waited for. The given cleanups run after the tests and before the
// parts stop.
func Main(m *testing.M, cleanups ...func() error) {
	embedded.Main()
	code := m.Run()
	fail := func(err error) {
		if err != nil && code == 0 {
			code = 1
			fmt.Fprintln(os.Stderr, err)
		}
	}
	for _, cleanup := range cleanups {
		fail(cleanup())
	}
	for i := len(stops) - 1; i >= 0; i-- {
		fail(stops[i]())
	}
	var known []goleak.Option
	if len(stops) > 0 {
		k, _ := choose()
		fmt.Println("parts:", k)
		if k == docker {
			known = append(known,
				// The connection to the container that removes ours should this process die; it
				// lives as long as the process.
				goleak.IgnoreAnyFunction("github.com/testcontainers/testcontainers-go.(*Reaper).connect.func1"),
				// Idle HTTP connections to the Docker daemon.
				goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"),
			)
		}
	}
	if code == 0 {
		fail(goleak.Find(known...))
	}
	os.Exit(code)
}
