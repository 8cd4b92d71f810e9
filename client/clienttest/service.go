// Package clienttest has an HTTP server for tests of programs that use package client.
//
// The server keeps payments in memory and fails on request. Tests need it because a real
// installation cannot lose a response after it has stored the payment.
//
//	service := clienttest.New()
//	server := service.Serve(t, clienttest.LoseResponse)
//	c, err := client.New(client.Config{Servers: []string{server.URL}, APIKey: "test"})
//
// It has the part of the API that a client sees: keys, replays, statuses, held responses. It does
// not validate payments and accepts every API key.
package clienttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Service is an installation in memory. Any number of servers may share it, as replicas share a
// database.
type Service struct {
	// NeverSend keeps payments in the status created. Otherwise a payment is sent as soon as a
	// request waits for it. Set it before the first request.
	NeverSend bool
	// OnCreate is called after each new payment with the number of payments. Set it before the
	// first request.
	OnCreate func(payments int)
	// HidePosition leaves out the positions of payments, as services do by default. Set it before
	// the first request.
	HidePosition bool
	// PositionOf returns the place of the nth payment in the topic, from 0. Set it before the first
	// request.
	PositionOf func(payment int) (partition int32, offset int64)

	mu       sync.Mutex
	servers  int
	requests []Request
	byKey    map[string]*record
	byID     map[string]*record
}

// Request is a request that has arrived.
type Request struct {
	// Server is the number of the server, in order of Handler and Serve, from 0.
	Server int
	Method string
	Path   string
	// Key is the header Idempotency-Key.
	Key string
	// Authorization is the header of that name.
	Authorization string
	// Prefer is the header of that name.
	Prefer string
	Body   string
}

// record is a payment.
type record struct {
	created map[string]any // The payment in the status created.
	body    []byte         // That of the create.
	number  int
}

// New returns a service without payments.
func New() *Service {
	return &Service{byKey: map[string]*record{}, byID: map[string]*record{}}
}

// PaymentID returns the id of the nth payment, from 0.
func PaymentID(n int) string { return fmt.Sprintf("0198c5e4-0000-8000-8000-%012d", n) }

// Serve starts a server until the test ends. Its first creates meet the faults, one each; a nil
// fault is none.
func (s *Service) Serve(t testing.TB, faults ...Fault) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(s.Handler(faults...))
	t.Cleanup(server.Close)
	return server
}

// Handler returns the handler of a server. Its first creates meet the faults, one each; a nil fault
// is none.
func (s *Service) Handler(faults ...Fault) http.Handler {
	s.mu.Lock()
	number := s.servers
	s.servers++
	s.mu.Unlock()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // The client is gone.
		}
		s.record(number, r, body)
		if r.Method != http.MethodPost {
			s.find(w, r)
			return
		}
		s.mu.Lock()
		var fault Fault
		if len(faults) > 0 {
			fault, faults = faults[0], faults[1:]
		}
		s.mu.Unlock()
		if fault != nil {
			fault(w, r, func(w http.ResponseWriter) { s.create(w, r, body) })
			return
		}
		s.create(w, r, body)
	})
}

// Requests returns the requests that have arrived so far.
func (s *Service) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Payments returns the number of payments.
func (s *Service) Payments() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}

// Has reports whether there is a payment with this id.
func (s *Service) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id] != nil
}

// Forget removes the nth payment, from 0, as a database without durable commits would.
func (s *Service) Forget(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, PaymentID(n))
}

func (s *Service) record(server int, r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{
		Server: server, Method: r.Method, Path: r.URL.Path,
		Key: r.Header.Get("Idempotency-Key"), Authorization: r.Header.Get("Authorization"),
		Prefer: r.Header.Get("Prefer"), Body: string(body),
	})
}

// create responds to POST /payments.
func (s *Service) create(w http.ResponseWriter, r *http.Request, body []byte) {
	key := r.Header.Get("Idempotency-Key")
	s.mu.Lock()
	payment, replayed := s.byKey[key], true
	if payment == nil {
		payment, replayed = s.add(key, body), false
	}
	payments := len(s.byID)
	s.mu.Unlock()
	if !replayed && s.OnCreate != nil {
		s.OnCreate(payments)
	}
	if !bytes.Equal(payment.body, body) {
		problem(w, http.StatusUnprocessableEntity, map[string]any{
			"code": "idempotency_key_reused", "detail": "another payment has this key",
			"payment_id": payment.created["id"],
			"errors":     []map[string]string{{"pointer": "/amount", "code": "differs", "detail": "not as before"}},
		})
		return
	}
	if replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	if r.Header.Get("Prefer") != "" && !s.NeverSend {
		s.respondSent(w, r, payment)
		return
	}
	w.Header().Set("Location", fmt.Sprint("/payments/", payment.created["id"]))
	w.Header().Set("Retry-After", "1")
	respond(w, http.StatusAccepted, payment.created)
}

func (s *Service) add(key string, body []byte) *record {
	created := map[string]any{}
	if err := json.Unmarshal(body, &created); err != nil {
		panic(err) // net/http logs it and closes the connection.
	}
	n := len(s.byID)
	id := PaymentID(n)
	created["id"], created["status"], created["final"] = id, "created", false
	created["created_at"] = "2026-11-23T12:00:00.123456Z"
	payment := &record{created: created, body: body, number: n}
	s.byKey[key], s.byID[id] = payment, payment
	return payment
}

// find responds to GET /payments/{id} and GET /payments?idempotency_key=K.
func (s *Service) find(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	payment := s.byKey[r.URL.Query().Get("idempotency_key")]
	if payment == nil && len(r.URL.Path) > len("/payments/") {
		payment = s.byID[r.URL.Path[len("/payments/"):]]
	}
	s.mu.Unlock()
	if payment == nil {
		problem(w, http.StatusNotFound, map[string]any{"code": "not_found", "detail": "no such payment"})
		return
	}
	if r.Header.Get("Prefer") != "" && !s.NeverSend {
		s.respondSent(w, r, payment)
		return
	}
	respond(w, http.StatusOK, payment.created)
}

// respondSent responds with the payment in the status sent.
func (s *Service) respondSent(w http.ResponseWriter, r *http.Request, payment *record) {
	sent := maps.Clone(payment.created)
	sent["status"], sent["sent_at"] = "sent", "2026-11-23T12:00:00.223456Z"
	partition, offset := int32(payment.number%12), int64(payment.number)
	if s.PositionOf != nil {
		partition, offset = s.PositionOf(payment.number)
	}
	if !s.HidePosition {
		sent["position"] = map[string]any{"topic": "payments", "partition": partition, "offset": offset}
	}
	w.Header().Set("Preference-Applied", r.Header.Get("Prefer"))
	respond(w, http.StatusOK, sent)
}

func respond(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // The client may be gone.
}

func problem(w http.ResponseWriter, status int, members map[string]any) {
	members["status"], members["title"] = status, http.StatusText(status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Request-Id", "req-1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(members) // The client may be gone.
}
