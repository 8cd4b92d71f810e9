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
	ping func(context.Context) error

	mu  sync.Mutex
	err error // Why the sender is not ready; nil if only the database can say so.
}

var (
	errStarting = errors.New("the sender is starting")
	errStopping = errors.New("the sender is stopping")
)

// pingTimeout is shorter than the time-out of a probe.
const pingTimeout = time.Second

func newSenderHealth(ping func(context.Context) error) *senderHealth {
	return &senderHealth{ping: ping, err: errStarting}
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
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return h.ping(ctx)
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
