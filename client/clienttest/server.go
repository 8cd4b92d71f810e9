// Package faultyserver is the other side of the HTTP contract for tests of the client: real servers of net/http
// that take payments into memory and fail exactly as told. A client cannot be tested against the real service alone,
// since that offers no way to lose an answer after the payment was taken.
//
// It keeps only what a client can see of the contract: keys, replays, statuses, held answers. It validates nothing.
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
	"time"
)

// Seen is one request as it arrived.
type Seen struct {
	Server int // which of the servers, in order of Serve
	Method string
	Path   string
	Key    string
	Auth   string
	Prefer string
	Body   string
}

// Ledger is the database behind the servers: what one has taken the others know.
type Ledger struct {
	// NeverSend leaves payments `created`. Set it before the first request.
	NeverSend bool
	// OnTake is called after each new payment with how many there are. Set it before the first request.
	OnTake func(payments int)
	// PositionOf says where the nth payment, from 0, is in the topic. Set it before the first request.
	PositionOf func(payment int) (partition int32, offset int64)

	mu      sync.Mutex
	servers int
	seen    []Seen
	byKey   map[string]*record
	byID    map[string]*record
}

type record struct {
	created map[string]any
	body    []byte
	number  int
}

// New makes an empty ledger.
func New() *Ledger { return &Ledger{byKey: map[string]*record{}, byID: map[string]*record{}} }

// ID is that of the nth payment, from 0.
func ID(n int) string { return fmt.Sprintf("0198c5e4-0000-8000-8000-%012d", n) }

// Lose forgets the nth payment, as a database that was not as durable as it said.
func (l *Ledger) Lose(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, ID(n))
}

// Fault answers a POST in the place of the service. take lets the service do its work first, into w.
type Fault func(w http.ResponseWriter, r *http.Request, take func(http.ResponseWriter))

// Serve starts a server whose first POSTs meet these faults, one each; nil is none. The test stops it.
func (l *Ledger) Serve(t testing.TB, faults ...Fault) *httptest.Server {
	t.Helper()
	l.mu.Lock()
	number := l.servers
	l.servers++
	l.mu.Unlock()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		l.note(number, r, body)
		if r.Method != http.MethodPost {
			l.find(w, r)
			return
		}
		l.mu.Lock()
		var fault Fault
		if len(faults) > 0 {
			fault, faults = faults[0], faults[1:]
		}
		l.mu.Unlock()
		if fault != nil {
			fault(w, r, func(w http.ResponseWriter) { l.take(w, r, body) })
			return
		}
		l.take(w, r, body)
	}))
	t.Cleanup(s.Close)
	return s
}

// Seen lists the requests so far.
func (l *Ledger) Seen() []Seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Seen(nil), l.seen...)
}

// Payments is how many were taken.
func (l *Ledger) Payments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byID)
}

// Has tells whether a payment of this id was taken.
func (l *Ledger) Has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id] != nil
}

func (l *Ledger) note(server int, r *http.Request, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, Seen{
		Server: server, Method: r.Method, Path: r.URL.Path,
		Key: r.Header.Get("Idempotency-Key"), Auth: r.Header.Get("Authorization"),
		Prefer: r.Header.Get("Prefer"), Body: string(body),
	})
}

// take is POST /payments.
func (l *Ledger) take(w http.ResponseWriter, r *http.Request, body []byte) {
	key := r.Header.Get("Idempotency-Key")
	l.mu.Lock()
	known, replayed := l.byKey[key], true
	if known == nil {
		known, replayed = l.enter(key, body), false
	}
	payments := len(l.byID)
	l.mu.Unlock()
	if !replayed && l.OnTake != nil {
		l.OnTake(payments)
	}
	if !bytes.Equal(known.body, body) {
		problem(w, http.StatusUnprocessableEntity, map[string]any{
			"code": "idempotency_key_reused", "detail": "another payment has this key", "payment_id": known.created["id"],
			"errors": []map[string]string{{"pointer": "/amount", "code": "differs", "detail": "not as before"}},
		})
		return
	}
	if replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	if r.Header.Get("Prefer") != "" && !l.NeverSend {
		l.answerSent(w, r, known)
		return
	}
	w.Header().Set("Location", fmt.Sprint("/payments/", known.created["id"]))
	w.Header().Set("Retry-After", "1")
	answer(w, http.StatusAccepted, known.created)
}

func (l *Ledger) enter(key string, body []byte) *record {
	created := map[string]any{}
	if err := json.Unmarshal(body, &created); err != nil {
		panic(err) // net/http logs it and closes the connection: the test sees a client that sends no JSON
	}
	n := len(l.byID)
	id := ID(n)
	created["id"], created["status"], created["final"] = id, "created", false
	created["created_at"] = "2026-11-23T12:00:00.123456Z"
	rec := &record{created: created, body: body, number: n}
	l.byKey[key], l.byID[id] = rec, rec
	return rec
}

// find is GET /payments/{id} and GET /payments?idempotency_key=K. A payment is sent as soon as somebody waits for it.
func (l *Ledger) find(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	rec := l.byKey[r.URL.Query().Get("idempotency_key")]
	if rec == nil && len(r.URL.Path) > len("/payments/") {
		rec = l.byID[r.URL.Path[len("/payments/"):]]
	}
	l.mu.Unlock()
	if rec == nil {
		problem(w, http.StatusNotFound, map[string]any{"code": "not_found", "detail": "no such payment"})
		return
	}
	if r.Header.Get("Prefer") != "" && !l.NeverSend {
		l.answerSent(w, r, rec)
		return
	}
	answer(w, http.StatusOK, rec.created)
}

// answerSent answers with the payment as it is once it is sent.
func (l *Ledger) answerSent(w http.ResponseWriter, r *http.Request, rec *record) {
	view := maps.Clone(rec.created)
	view["status"], view["sent_at"] = "sent", "2026-11-23T12:00:00.223456Z"
	partition, offset := int32(rec.number%12), int64(rec.number)
	if l.PositionOf != nil {
		partition, offset = l.PositionOf(rec.number)
	}
	view["position"] = map[string]any{"topic": "payments", "partition": partition, "offset": offset}
	w.Header().Set("Preference-Applied", r.Header.Get("Prefer"))
	answer(w, http.StatusOK, view)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that has gone is what some tests are about
}

func problem(w http.ResponseWriter, status int, members map[string]any) {
	members["status"], members["title"] = status, http.StatusText(status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Request-Id", "req-1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(members) // as above
}

// stallMax ends a stalled answer of a client that never gives up, so that the test fails rather than hangs.
const stallMax = 20 * time.Second
