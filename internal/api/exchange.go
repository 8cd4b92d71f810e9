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

// requestIDBytesMax bounds a request id that a client sends. A longer one is replaced.
const requestIDBytesMax = 128

// handler serves one request. It writes the response through the exchange and returns nil, or it
// returns an error and writes nothing. Errors become responses in one place: see Server.instrument.
type handler func(*exchange) error

// exchange is one request and its response.
type exchange struct {
	w         http.ResponseWriter
	r         *http.Request
	requestID string
	// key and tenant are zero until the request is authenticated.
	key    payment.APIKey
	tenant payment.Tenant
	// usage is the tenant's. It is nil until the request is admitted.
	usage *tenantUsage
	// draining is the server's.
	draining *atomic.Bool
	// showPosition is Config.ShowPosition.
	showPosition bool
	// status is 0 until the response is written.
	status int
	// code is the code of the problem in the response, or empty.
	code string
	// bodyRead reports that the body of the request was read, if only in part.
	bodyRead bool
}

// Context returns the context of the request. It ends when the client goes away.
func (x *exchange) Context() context.Context { return x.r.Context() }

// Header returns the header of the response.
func (x *exchange) Header() http.Header { return x.w.Header() }

// Write implements io.Writer: it appends to the body of the response.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	return x.w.Write(b)
}

// WriteHeader records the status for the log and the metrics. The client has responseTimeout from
// here on. While the server drains, it closes the connection with the response. A client with a
// persistent connection then moves to another replica.
func (x *exchange) WriteHeader(status int) {
	x.status = status
	// It is not supported by the recorders of tests only.
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(responseTimeout))
	x.hastenBody()
	if x.draining.Load() {
		x.Header()["Connection"] = connectionClose
	}
	x.w.WriteHeader(status)
}

// instrument turns a handler into an http.Handler. It sets the request id, writes errors and panics
// as problems, and counts and logs the outcome.
func (s *Server) instrument(route string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		x := &exchange{w: w, r: r, requestID: requestID(r), draining: &s.draining, showPosition: s.config.ShowPosition}
		header := w.Header()
		header["X-Request-Id"] = []string{x.requestID}
		header["X-Content-Type-Options"] = nosniff
		if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
			// A body with Content-Length, too, ends the connection (RFC 9112 section 6.1). net/http
			// drops that field, so it is not known whether it was there. With HTTP/1.0 it drops
			// Transfer-Encoding.
			header["Connection"] = connectionClose
		}
		err := s.recovered(x, h)
		if err != nil && x.status == 0 {
			x.writeError(err)
		}
		s.report(x, route, time.Since(began), err)
	})
}

// recovered runs h. It turns a panic into errPanic and logs its stack.
func (s *Server) recovered(x *exchange, h handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := string(debug.Stack())
			s.logger.Error("panic", "panic", p, "request_id", x.requestID, "stack", stack)
			err = errPanic
		}
	}()
	return h(x)
}

// requestID returns the id that the client sent, so that the logs of both sides can be joined. If
// there is none, or it is not usable, it returns a new UUIDv7.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if id != "" && len(id) <= requestIDBytesMax && visibleASCII(id) {
		return id
	}
	generated, err := uuid.NewV7FromReader(randomBits{})
	if err != nil {
		panic(err) // randomBits never fails.
	}
	return generated.String()
}

// randomBits is an io.Reader of random bits. They protect nothing, so they do not cost a system
// call.
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
