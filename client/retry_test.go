package client

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client/clienttest"
)

// TestClient_Pause: the pause is bounded, doubles, has jitter, and is at least Retry-After.
func TestClient_Pause(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("refused")}
	c := newTestClient(t, func(cfg *Config) {
		cfg.BackoffFirst, cfg.BackoffMax = 100*time.Millisecond, time.Second
	}, "http://a", "http://b")
	within := func(what string, got, low, high time.Duration) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("%s: %v is not within %v and %v", what, got, low, high)
		}
	}
	for range 200 {
		within("next server after a dead one", c.pause(1, refused), 0, 0)
		within("all servers dead", c.pause(2, refused), 100*time.Millisecond, 200*time.Millisecond)
		within("503", c.pause(1, &ProblemError{Status: 503}), 50*time.Millisecond, 100*time.Millisecond)
		asked := &ProblemError{Status: 503, retryAfter: 3 * time.Second}
		within("503 with Retry-After", c.pause(1, asked), 3050*time.Millisecond, 3100*time.Millisecond)
		within("long after", c.pause(99, refused), 500*time.Millisecond, time.Second)
	}
}

// TestConfig_AttemptsMax: with 1, nothing is retried.
func TestConfig_AttemptsMax(t *testing.T) {
	service := clienttest.New()
	once := func(cfg *Config) { cfg.AttemptsMax = 1 }
	c := newTestClient(t, once, service.Serve(t, clienttest.Unavailable).URL)
	result, err := c.Create(t.Context(), "key-1", testRequest())
	if _, unknown := errors.AsType[*UnknownError](err); !unknown || result.Attempts != 1 {
		t.Errorf("got error %v after %d attempts, want an UnknownError after 1", err, result.Attempts)
	}
	if n := len(service.Requests()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

// TestWithObserver: each attempt is reported with its server, its outcome, and what follows.
func TestWithObserver(t *testing.T) {
	service := clienttest.New()
	bare := clienttest.Respond(503, "text/html", "no server is available")
	dead, live := deadServer(t), service.Serve(t, clienttest.Unavailable, bare, clienttest.LoseResponse).URL
	c := newTestClient(t, nil, dead, live)
	var attempts []Attempt
	outer := 0
	ctx := WithObserver(t.Context(), func(Attempt) { outer++ })
	ctx = WithObserver(ctx, func(a Attempt) { attempts = append(attempts, a) })
	result, err := c.Create(ctx, "key-1", testRequest())
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	for i, a := range attempts {
		outcomes = append(outcomes, a.Outcome())
		last := i == len(attempts)-1
		if a.Number != i+1 || a.Server != []string{dead, live}[i%2] || a.Retry == last || (a.Err == nil) != last ||
			a.Took <= 0 {
			t.Errorf("attempt %d: got %+v", i+1, a)
		}
	}
	want := []string{
		"not reached", "503", "not reached", "503 without Retry-After", "not reached", "connection lost",
		"not reached", "202",
	}
	if !slices.Equal(outcomes, want) || result.Attempts != len(want) {
		t.Errorf("got %q in %d attempts, want %q", outcomes, result.Attempts, want)
	}
	if outer != len(want) {
		t.Errorf("the outer observer saw %d attempts, want %d", outer, len(want))
	}
	if attempts[0].Pause != 0 || attempts[2].Pause <= 0 || attempts[1].Status != 503 || attempts[7].Status != 202 {
		t.Errorf("got %+v", attempts)
	}
}
