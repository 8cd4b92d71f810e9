package api

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
)

// requestIDMax is the longest request id that is taken from a client.
const requestIDMax = 128

// handler answers one request. It either answers through the exchange and returns nil, or returns the error that the exchange then answers: each
// failure is turned into a response in one place.
type handler func(*exchange) error

// exchange is one request and its answer.
type exchange struct {
	w         http.ResponseWriter
	r         *http.Request
	requestID string
	tenant    payment.Tenant // Zero until authenticated.
	share     *share         // The tenant's; nil until the request is admitted.
	draining  *atomic.Bool   // The server's.
	status    int
	code      string // Of the problem answered, or empty.
}

// Context is the request's; it ends when the client goes away.
func (x *exchange) Context() context.Context { return x.r.Context() }

// Header is the answer's.
func (x *exchange) Header() http.Header { return x.w.Header() }

// Write makes the exchange the io.Writer of its answer's body.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	return x.w.Write(b)
}

// WriteHeader notes the status for log and metrics. While the server drains it ends the connection
// with the response, so that a client which keeps its connection moves to another replica.
func (x *exchange) WriteHeader(status int) {
	x.status = status
	if x.draining.Load() {
		x.Header()["Connection"] = connectionClose
	}
	x.w.WriteHeader(status)
}

// answered turns a handler into an http.Handler: it gives the request its id, answers errors and panics, and counts and logs the outcome.
func (s *Server) answered(route string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		x := &exchange{w: w, r: r, requestID: requestID(r), draining: &s.draining}
		w.Header()["X-Request-Id"] = []string{x.requestID}
		err := s.guarded(x, h)
		if err != nil && x.status == 0 {
			x.answerError(err)
		}
		s.report(x, route, time.Since(began), err)
	})
}

// guarded runs a handler; a panic is an error like any other, except that its stack is logged.
func (s *Server) guarded(x *exchange, h handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("panic", "panic", p, "request_id", x.requestID, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return h(x)
}

// requestID takes the client's own id, so that both sides' logs can be joined, or makes one.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); id != "" && len(id) <= requestIDMax && visibleASCII(id) {
		return id
	}
	id, err := uuid.NewV7FromReader(randomBits{})
	if err != nil { // Its reader never fails.
		panic(err)
	}
	return id.String()
}

// randomBits is an io.Reader of random bits that guard nothing, and so need not come from the kernel.
type randomBits struct{}

func (randomBits) Read(b []byte) (int, error) {
	for i := 0; i < len(b); i += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], rand.Uint64())
		copy(b[i:], word[:])
	}
	return len(b), nil
}

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
