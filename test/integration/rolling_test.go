package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client"
)

// TestRolling restarts one replica after the other behind a balancer, under load. With a drain
// delay no request fails, though no request is repeated. The control has no delay: the balancer
// then learns too late that a replica is gone.
func TestRolling(t *testing.T) {
	t.Parallel()
	const replicas, rounds = 3, 2
	t.Run("Drained", func(t *testing.T) {
		i := install(t)
		// The balancer may be slow on a busy machine. So the delay is long, and a second signal
		// ends it.
		r := i.roll(t, replicas, "10m")
		for range rounds * replicas {
			oldest := r.replicas[0]
			oldest.signal(t)
			eventually(t, "the balancer leaves the replica", func() error {
				if !r.balancer.left(oldest.backend) {
					return errNotYet
				}
				return nil
			})
			r.replaceOldest(t)
		}
		accepted := r.load.stop()
		if failures := r.load.failures; len(failures) > 0 {
			t.Errorf("got %d of %d requests failed, want 0:\n%s", len(failures), r.load.requests.Load(),
				strings.Join(failures[:min(len(failures), 10)], "\n"))
		}
		i.drained(t)
		i.wantClean(t, accepted)
		t.Logf("%d requests and %d payments through %d restarts, %d slow", r.load.requests.Load(), accepted,
			rounds*replicas, r.load.slow.Load())
	})
	t.Run("Control", func(t *testing.T) {
		r := install(t).roll(t, replicas, "0s")
		for n := 0; n < 10*replicas && r.load.failed() == 0; n++ {
			r.replaceOldest(t)
		}
		r.load.stop()
		if r.load.failed() == 0 {
			t.Error("got no failed request without a drain delay, want some: nothing was tested")
		}
	})
}

// rolling is an installation behind a balancer, under load.
type rolling struct {
	installation *installation
	balancer     *balancer
	load         *firstAttempts
	env          map[string]string
	// replicas has the oldest first.
	replicas []replica
}

// replica is a process, and its state in the balancer.
type replica struct {
	*process
	backend *backend
}

func (i *installation) roll(t *testing.T, replicas int, drainDelay string) *rolling {
	t.Helper()
	r := &rolling{installation: i, balancer: newBalancer(t), env: map[string]string{"PAYLATCH_DRAIN_DELAY": drainDelay}}
	for range replicas {
		r.launch(t)
	}
	r.load = startFirstAttempts(t, r.balancer.url, i.key, 4)
	r.load.progress(t)
	return r
}

// launch starts a replica, and waits until the balancer uses it.
func (r *rolling) launch(t *testing.T) {
	t.Helper()
	p := r.installation.launch(t, "serve", r.env)
	b := r.balancer.add(t, p.api)
	r.replicas = append(r.replicas, replica{p, b})
	eventually(t, "the balancer uses the replica", func() error {
		if !b.up.Load() {
			return errNotYet
		}
		return nil
	})
}

// replaceOldest stops the oldest replica by a signal, and starts another one.
func (r *rolling) replaceOldest(t *testing.T) {
	t.Helper()
	end(t, r.replicas[0].process)
	r.replicas = r.replicas[1:]
	r.launch(t)
	r.load.progress(t)
}

// firstAttempts is a load that makes each request once, over kept connections.
type firstAttempts struct {
	key      string
	base     string
	http     *http.Client
	over     atomic.Bool
	workers  sync.WaitGroup
	requests atomic.Int64
	accepted atomic.Int64
	// slow counts the 503 after storeTimeout.
	slow atomic.Int64

	mu       sync.Mutex
	failures []string
}

// loadPause is the time between two payments of a worker. It leaves the processors to the replicas.
const loadPause = 10 * time.Millisecond

func startFirstAttempts(t *testing.T, base, key string, workers int) *firstAttempts {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	f := &firstAttempts{key: key, base: base, http: &http.Client{Transport: transport, Timeout: startTimeout}}
	body, err := json.Marshal(sample("1"))
	if err != nil {
		t.Fatal(err)
	}
	for n := range workers {
		f.workers.Go(func() {
			prefer := ""
			if n%2 == 0 { // Half of the creates wait.
				prefer = "wait=5"
			}
			for ; !f.over.Load(); time.Sleep(loadPause) {
				if id := f.create(body, prefer); id != "" {
					f.do(http.MethodGet, "/payments/"+id, nil, nil)
				}
			}
		})
	}
	t.Cleanup(func() {
		f.stop()
		transport.CloseIdleConnections()
	})
	return f
}

// create makes a payment and returns its id, or "" if the request failed.
func (f *firstAttempts) create(body []byte, prefer string) string {
	header := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {newKey()}, "Prefer": {prefer}}
	var p client.Payment
	if content := f.do(http.MethodPost, "/payments", header, body); content == nil ||
		json.Unmarshal(content, &p) != nil {
		return ""
	}
	f.accepted.Add(1)
	return p.ID
}

// storeTimeout is how long a replica waits for the database before it responds with 503.
const storeTimeout = 5 * time.Second

// do makes one request. Any status other than 200 and 202 is a failure. The exception is the 503 of
// a replica whose database was too slow: it comes from a busy machine, not from a restart.
func (f *firstAttempts) do(method, path string, header http.Header, body []byte) []byte {
	f.requests.Add(1)
	request, err := http.NewRequestWithContext(context.Background(), method, f.base+path, bytes.NewReader(body))
	if err != nil {
		f.fail("%v", err)
		return nil
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", bearer(f.key))
	request.GetBody = nil // Else the transport would repeat the request.
	began := time.Now()
	response, err := f.http.Do(request)
	if err != nil {
		f.fail("%s %s: %v", method, path, err)
		return nil
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	busy := response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != ""
	if err == nil && busy && time.Since(began) >= storeTimeout {
		f.slow.Add(1)
		return nil
	}
	if err != nil || response.StatusCode != http.StatusOK && response.StatusCode != http.StatusAccepted {
		f.fail("%s %s: %d, error %v: %s", method, path, response.StatusCode, err, content)
		return nil
	}
	return content
}

func (f *firstAttempts) fail(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *firstAttempts) failed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.failures)
}

// lastFailure returns the last failure.
func (f *firstAttempts) lastFailure() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.failures) == 0 {
		return ""
	}
	return f.failures[len(f.failures)-1]
}

// progress waits for more payments to be taken.
func (f *firstAttempts) progress(t *testing.T) {
	t.Helper()
	before := f.accepted.Load()
	eventually(t, "payments are taken", func() error {
		if n := f.accepted.Load(); n < before+50 {
			return fmt.Errorf("%d taken, %d failed, the last: %s", n-before, f.failed(), f.lastFailure())
		}
		return nil
	})
}

// stop ends the load and returns how many payments were taken.
func (f *firstAttempts) stop() int64 {
	f.over.Store(true)
	f.workers.Wait()
	return f.accepted.Load()
}
