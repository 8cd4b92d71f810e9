// Package parts gives tests a real PostgreSQL and a real Kafka broker. They are official
// containers, by testcontainers, if a Docker daemon responds, and embedded ones otherwise.
// PAYLATCH_TEST_PARTS=docker demands containers, and =embedded forbids them. A missing dependency
// fails the test; nothing is skipped.
//
// Each test has a database and a topic of its own. So tests run in parallel and check whole tables
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

// startTimeout bounds the start of one dependency, including a first download of its binaries.
const startTimeout = 3 * time.Minute

// The kinds of dependencies.
const (
	docker      = "docker"
	embeddedOne = "embedded"
)

// choose chooses, once per process, the kind of dependencies.
var choose = sync.OnceValues(func() (string, error) {
	switch demand := os.Getenv("PAYLATCH_TEST_PARTS"); demand {
	case embeddedOne:
		return embeddedOne, nil
	case docker, "":
		err := dockerResponds()
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

// dockerResponds returns nil if the daemon responds. testcontainers finds it by the usual
// environment.
func dockerResponds() (err error) {
	defer func() { // testcontainers panics where there is no socket at all.
		if p := recover(); p != nil {
			err = fmt.Errorf("no Docker: %v", p)
		}
	}()
	// This process gets a reaper of its own. Packages that are tested at once would share one, and
	// fail if they start it at the same time.
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

// Kind returns the kind of dependencies, docker or embedded. It returns an error if containers are
// demanded and there are none.
func Kind() (string, error) { return choose() }

// InDocker reports whether the dependencies are containers, with a real broker.
func InDocker(t testing.TB) bool {
	t.Helper()
	return kind(t) == docker
}

// kind returns the chosen kind.
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
	stops   []func() error // They stop what the tests of this process share, the last one first.
)

func stopAtEnd(stop func() error) {
	stopsMu.Lock()
	defer stopsMu.Unlock()
	stops = append(stops, stop)
}

// Main is the TestMain of packages that use this one. It runs the tests, stops what they shared,
// and finds leaked goroutines. The given cleanups run after the tests, before the dependencies
// stop.
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
