package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"
)

// senderHealth is what a sender alone responds to GET /livez and /readyz on its admin listener.
// Such a process has no clients, so its readiness is for orchestrators: a rolling update waits for
// it.
//
// The sender is ready once it has found a topic that is fit for payments, and while the database
// responds. Kafka may be away then: payments are sent when it is back.
type senderHealth struct {
	ping *sharedPing

	mu  sync.Mutex
	err error // Why the sender is not ready; nil if only the database can say so.
}

var (
	errStarting = errors.New("the sender is starting")
	errStopping = errors.New("the sender is stopping")
)

const (
	// pingTimeout is shorter than the time-out of a probe.
	pingTimeout = time.Second
	// pingAgeMax is how old the result of a ping may be that a probe gets. So all probes together
	// query the database five times a second at most.
	pingAgeMax = 200 * time.Millisecond
)

func newSenderHealth(ping func(context.Context) error) *senderHealth {
	return &senderHealth{ping: &sharedPing{ping: ping}, err: errStarting}
}

// sharedPing pings the database for any number of callers: one ping is in progress at most. Safe
// for concurrent use.
type sharedPing struct {
	ping func(context.Context) error

	mu sync.Mutex
	// last is the newest ping. It is nil before the first one.
	last *pingResult
}

// pingResult is a ping and, once done is closed, its result.
type pingResult struct {
	began time.Time
	done  chan struct{}
	err   error
}

// do returns the result of a ping that is in progress or began less than pingAgeMax ago. If there
// is none, it starts one.
func (p *sharedPing) do(ctx context.Context) error {
	result := p.join()
	select {
	case <-result.done:
		return result.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *sharedPing) join() *pingResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != nil && (!p.last.ended() || time.Since(p.last.began) < pingAgeMax) {
		return p.last
	}
	result := &pingResult{began: time.Now(), done: make(chan struct{})}
	p.last = result
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
		defer cancel()
		result.err = p.ping(ctx)
		close(result.done)
	}()
	return result
}

// ended reports whether the ping is done.
func (r *pingResult) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// waitsFor notes why there is no topic yet.
func (h *senderHealth) waitsFor(err error) { h.set(err) }

// found notes that there is a topic.
func (h *senderHealth) found() { h.set(nil) }

// stopping notes that the process stops, which is for good.
func (h *senderHealth) stopping() { h.set(errStopping) }

func (h *senderHealth) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !errors.Is(h.err, errStopping) {
		h.err = err
	}
}

// ready returns nil if the sender is ready.
func (h *senderHealth) ready(ctx context.Context) error {
	h.mu.Lock()
	err := h.err
	h.mu.Unlock()
	if err != nil {
		return err
	}
	return h.ping.do(ctx)
}

func (h *senderHealth) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeHealth(w, http.StatusOK, healthBody{Status: "live"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := h.ready(r.Context()); err != nil {
			w.Header().Set("Retry-After", "1")
			writeHealth(w, http.StatusServiceUnavailable, healthBody{Status: "not ready", Detail: err.Error()})
			return
		}
		writeHealth(w, http.StatusOK, healthBody{Status: "ready"})
	})
	return mux
}

type healthBody struct {
	Status string `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func writeHealth(w http.ResponseWriter, status int, body healthBody) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // The client may be gone.
}
