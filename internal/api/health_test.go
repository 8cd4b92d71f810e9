package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

var quiet = slog.New(slog.NewJSONHandler(io.Discard, nil))

// TestReadiness_State follows a replica through checks, by a clock of the test's.
func TestReadiness_State(t *testing.T) {
	const ready unreadyReason = "ready"
	noSchema, noTopic := fmt.Errorf("a table: %w", payment.ErrNoSchema), fmt.Errorf("no row: %w", payment.ErrNoTopic)
	type step struct {
		after time.Duration // Since the step before.
		check bool
		err   error // Of the check.
		want  unreadyReason
	}
	ok := func(after time.Duration) step { return step{after, true, nil, ready} }
	failed := func(after time.Duration, err error, want unreadyReason) step { return step{after, true, err, want} }
	asked := func(after time.Duration, want unreadyReason) step { return step{after, false, nil, want} }
	for name, steps := range map[string][]step{
		"NotChecked":      {asked(0, unreadyDatabase)},
		"NeverReady":      {failed(0, errAway, unreadyDatabase), ok(time.Second)},
		"NoSchemaAtFirst": {failed(0, noSchema, unreadySchema), failed(time.Second, noTopic, unreadyTopic), ok(time.Second)},
		"Bug":             {failed(0, errors.New("a fault of ours"), unreadyInternal)},
		"Transient": {
			ok(0), failed(time.Second, errAway, ready), failed(readyGrace-time.Second-1, errAway, ready), ok(0),
			failed(readyGrace-1, errAway, ready),
		},
		"Lasting":          {ok(0), failed(time.Second, errAway, ready), failed(readyGrace-time.Second, errAway, unreadyDatabase), ok(time.Hour)},
		"CheckHangs":       {ok(0), asked(readyGrace-1, ready), asked(1, unreadyDatabase)},
		"SchemaIsReplaced": {ok(0), failed(time.Second, noSchema, ready), failed(readyGrace, noSchema, unreadySchema)},
		"FailsFromStart": {
			failed(0, errAway, unreadyDatabase), failed(time.Hour, errAway, unreadyDatabase), ok(time.Second), asked(readyGrace-1, ready),
		},
	} {
		t.Run(name, func(t *testing.T) {
			now, result := time.Unix(0, 0), error(nil)
			r := newReadiness(func(context.Context) ([]int32, error) { return nil, result }, quiet)
			r.now = func() time.Time { return now }
			for n, s := range steps {
				now = now.Add(s.after)
				if result = s.err; s.check {
					r.once(t.Context())
				}
				got := ready
				if _, err := r.state(); err != nil {
					unready, ok := errors.AsType[*unreadyError](err)
					if !ok {
						t.Fatalf("step %d: error %v", n, err)
					}
					got = unready.reason
				}
				if got != s.want || (r.value() == 1) != (s.want == ready) {
					t.Errorf("step %d: %s, metric %v; want %s", n, got, r.value(), s.want)
				}
			}
		})
	}
}

// TestReadiness_Shared: however many ask, there is one check at a time, and one in each readyEvery.
func TestReadiness_Shared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seconds, pollers = 20, 50
		var checks, underWay atomic.Int32
		r := newReadiness(func(context.Context) ([]int32, error) {
			if underWay.Add(1) > 1 {
				t.Error("two checks at once")
			}
			defer underWay.Add(-1)
			checks.Add(1)
			time.Sleep(readyEvery / 3)
			return nil, nil
		}, quiet)
		ctx, cancel := context.WithTimeout(t.Context(), seconds*readyEvery-1)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { r.run(ctx) })
		for range pollers {
			all.Go(func() {
				for ; ctx.Err() == nil; time.Sleep(readyEvery / 10) {
					r.awaitFirst(ctx)
					if _, err := r.state(); err != nil {
						t.Errorf("asked while every check succeeds: %v", err)
						return
					}
				}
			})
		}
		all.Wait()
		if n := checks.Load(); n != seconds {
			t.Errorf("%d checks in %d s, want one a second", n, seconds)
		}
	})
}

// TestReadiness_CheckHangs: a check that does not return is given up after workTimeout, and a
// poller waits for none.
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
		if took := time.Since(began); took != readyEvery {
			t.Errorf("a poller waited for %s, want %s", took, readyEvery)
		}
		time.Sleep(3 * workTimeout)
		if n := checks.Load(); n < 3 {
			t.Errorf("%d checks in %s, want one in each %s", n, 3*workTimeout+readyEvery, workTimeout)
		}
		cancel()
		running.Wait()
	})
}

// poll asks a server for its readiness and returns the response.
func poll(server *Server, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	return w
}

// TestReady_Drain: a server that drains is not ready, lives, serves, and ends each connection.
func TestReady_Drain(t *testing.T) {
	server, _ := newMemoryServer(t)
	server.readiness.once(t.Context())
	close(server.readiness.first)
	for _, path := range []string{"/readyz", "/livez", "/problems/none"} {
		if w := poll(server, path); w.Header().Get("Connection") != "" || path == "/readyz" && w.Code != http.StatusOK {
			t.Errorf("%s before the drain: %d, Connection %q", path, w.Code, w.Header().Get("Connection"))
		}
	}
	server.Drain()
	for path, status := range map[string]int{"/readyz": 503, "/livez": 200, "/problems/none": 404, "/problems/internal": 200, "/payments": 401} {
		if w := poll(server, path); w.Code != status || w.Header().Get("Connection") != "close" {
			t.Errorf("%s in the drain: %d, Connection %q; want %d, close", path, w.Code, w.Header().Get("Connection"), status)
		}
	}
	var body struct{ Code, Reason string }
	if err := json.NewDecoder(poll(server, "/readyz").Body).Decode(&body); err != nil || body.Code != "unavailable" || body.Reason != "draining" {
		t.Errorf("%+v, error %v; want unavailable, draining", body, err)
	}
}

// TestReady_HaltedPartitions: they are named, and no reason not to be ready.
func TestReady_HaltedPartitions(t *testing.T) {
	server, _ := newMemoryServer(t)
	server.readiness.check = func(context.Context) ([]int32, error) { return []int32{3, 4}, nil }
	server.readiness.once(t.Context())
	close(server.readiness.first)
	var body struct {
		HaltedPartitions []int `json:"halted_partitions"`
	}
	w := poll(server, "/readyz")
	if err := json.NewDecoder(w.Body).Decode(&body); err != nil || w.Code != 200 || !slices.Equal(body.HaltedPartitions, []int{3, 4}) {
		t.Errorf("%d with %v (error %v), want 200 with 3 and 4", w.Code, body.HaltedPartitions, err)
	}
}
