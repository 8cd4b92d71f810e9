package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestReadiness_State runs sequences of checks with a fake clock.
func TestReadiness_State(t *testing.T) {
	const ready unreadyReason = "ready"
	noSchema, noTopic := fmt.Errorf("a table: %w", payment.ErrNoSchema), fmt.Errorf("no row: %w", payment.ErrNoTopic)
	type step struct {
		// after is the time since the previous step.
		after time.Duration
		check bool
		// err is the result of the check.
		err  error
		want unreadyReason
	}
	ok := func(after time.Duration) step { return step{after, true, nil, ready} }
	failed := func(after time.Duration, err error, want unreadyReason) step { return step{after, true, err, want} }
	noCheck := func(after time.Duration, want unreadyReason) step { return step{after, false, nil, want} }
	for name, steps := range map[string][]step{
		"NotChecked": {noCheck(0, unreadyDatabase)},
		"NeverReady": {failed(0, errAway, unreadyDatabase), ok(time.Second)},
		"NoSchemaAtFirst": {
			failed(0, noSchema, unreadySchema), failed(time.Second, noTopic, unreadyTopic), ok(time.Second),
		},
		"Bug": {failed(0, errors.New("a fault of ours"), unreadyInternal)},
		"Transient": {
			ok(0), failed(time.Second, errAway, ready), failed(readyGracePeriod-time.Second-1, errAway, ready),
			ok(0), failed(readyGracePeriod-1, errAway, ready),
		},
		"Lasting": {
			ok(0), failed(time.Second, errAway, ready),
			failed(readyGracePeriod-time.Second, errAway, unreadyDatabase), ok(time.Hour),
		},
		"CheckHangs": {ok(0), noCheck(readyGracePeriod-1, ready), noCheck(1, unreadyDatabase)},
		"SchemaIsReplaced": {
			ok(0), failed(time.Second, noSchema, ready), failed(readyGracePeriod, noSchema, unreadySchema),
		},
		"FailsFromStart": {
			failed(0, errAway, unreadyDatabase), failed(time.Hour, errAway, unreadyDatabase),
			ok(time.Second), noCheck(readyGracePeriod-1, ready),
		},
	} {
		t.Run(name, func(t *testing.T) {
			now, result := time.Unix(0, 0), error(nil)
			r := newReadiness(func(context.Context) ([]int32, error) { return nil, result }, quiet)
			r.now = func() time.Time { return now }
			for n, s := range steps {
				now = now.Add(s.after)
				result = s.err
				if s.check {
					r.checkOnce(t.Context())
				}
				got := ready
				if _, err := r.state(); err != nil {
					unready, ok := errors.AsType[*unreadyError](err)
					if !ok {
						t.Fatalf("step %d: got error %v, want an unreadyError", n, err)
					}
					got = unready.reason
				}
				if got != s.want || (r.gauge() == 1) != (s.want == ready) {
					t.Errorf("step %d: got %s and metric %v, want %s", n, got, r.gauge(), s.want)
				}
			}
		})
	}
}

// TestReadiness_Shared has many pollers. There is one check in each readyInterval, and never two at
// once.
func TestReadiness_Shared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seconds, pollers = 20, 50
		var checks, running atomic.Int32
		r := newReadiness(func(context.Context) ([]int32, error) {
			if n := running.Add(1); n > 1 {
				t.Errorf("got %d checks at once, want 1", n)
			}
			defer running.Add(-1)
			checks.Add(1)
			time.Sleep(readyInterval / 3)
			return nil, nil
		}, quiet)
		ctx, cancel := context.WithTimeout(t.Context(), seconds*readyInterval-1)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { r.run(ctx) })
		for range pollers {
			all.Go(func() {
				for ; ctx.Err() == nil; time.Sleep(readyInterval / 10) {
					r.awaitFirst(ctx)
					if _, err := r.state(); err != nil {
						t.Errorf("got error %v, want nil: every check succeeds", err)
						return
					}
				}
			})
		}
		all.Wait()
		if n := checks.Load(); n != seconds {
			t.Errorf("got %d checks in %d s, want one per second", n, seconds)
		}
	})
}

// TestReadiness_CheckHangs: a check that does not return is cancelled after workTimeout. A poller
// does not wait for it.
func TestReadiness_CheckHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		r := newReadiness(func(ctx context.Context) ([]int32, error) {
			checks.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.run(ctx) })
		began := time.Now()
		r.awaitFirst(ctx)
		if took := time.Since(began); took != readyInterval {
			t.Errorf("got a poller that waited for %s, want %s", took, readyInterval)
		}
		time.Sleep(3 * workTimeout)
		if n := checks.Load(); n < 3 {
			t.Errorf("got %d checks in %s, want one in each %s", n, 3*workTimeout+readyInterval, workTimeout)
		}
		cancel()
		running.Wait()
	})
}

// poll makes a GET request without headers.
func poll(t *testing.T, server *Server, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	server.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return w
}

// TestReady_Drain: a server that drains is not ready and ends each connection. It is live and
// serves.
func TestReady_Drain(t *testing.T) {
	server, _ := newTestServer(t)
	server.readiness.checkOnce(t.Context())
	close(server.readiness.first)
	for _, path := range []string{"/readyz", "/livez", "/problems/none"} {
		w := poll(t, server, path)
		if connection := w.Header().Get("Connection"); connection != "" {
			t.Errorf("%s before the drain: got Connection %q, want none", path, connection)
		}
		if path == "/readyz" && w.Code != http.StatusOK {
			t.Errorf("%s before the drain: got status %d, want 200", path, w.Code)
		}
	}
	server.Drain()
	for path, status := range map[string]int{
		"/readyz": 503, "/livez": 200, "/problems/none": 404, "/problems/internal": 200, "/payments": 401,
	} {
		w := poll(t, server, path)
		if connection := w.Header().Get("Connection"); w.Code != status || connection != "close" {
			t.Errorf("%s in the drain: got %d and Connection %q, want %d and close", path, w.Code, connection, status)
		}
	}
	var body struct{ Code, Reason string }
	err := json.NewDecoder(poll(t, server, "/readyz").Body).Decode(&body)
	if err != nil || body.Code != "unavailable" || body.Reason != "draining" {
		t.Errorf("got %+v and error %v, want unavailable, draining", body, err)
	}
}

// TestReady_HaltedPartitions: halted partitions are reported to operators alone, and the replica is
// ready.
func TestReady_HaltedPartitions(t *testing.T) {
	server, _ := newTestServer(t)
	server.readiness.check = func(context.Context) ([]int32, error) { return []int32{3, 4}, nil }
	server.readiness.checkOnce(t.Context())
	close(server.readiness.first)
	var body struct {
		HaltedPartitions []int `json:"halted_partitions"`
	}
	w := do(t, server.AdminHealth(), http.MethodGet, "/readyz", "")
	err := json.NewDecoder(w.Body).Decode(&body)
	if err != nil || w.Code != http.StatusOK || !slices.Equal(body.HaltedPartitions, []int{3, 4}) {
		t.Errorf("got %d with %v (error %v), want 200 with 3 and 4", w.Code, body.HaltedPartitions, err)
	}
	if w := poll(t, server, "/readyz"); w.Code != http.StatusOK || w.Body.String() != "{\"status\":\"ready\"}\n" {
		t.Errorf("clients got %d and %s, want 200 and no partitions", w.Code, w.Body)
	}
}
