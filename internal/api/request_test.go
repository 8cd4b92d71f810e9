package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
)

// quiet is a logger whose records are dropped.
var quiet = slog.New(slog.NewJSONHandler(io.Discard, nil))

// request returns a request with an API key and the headers of a create. The pairs in headers
// replace them; an empty value removes the header.
func request(t *testing.T, method, target, body string, headers ...string) *http.Request {
	t.Helper()
	key, err := payment.NewAPIKey("live")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", uuid.NewString())
	for i := 0; i < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	return r
}

// do makes a request and returns the response.
func do(t *testing.T, h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(t, method, target, body, headers...))
	return w
}

// wantProblem checks that a response is a complete problem document with the code, and returns it.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, code string) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("got body %q, want a problem: %v", w.Body, err)
	}
	if p.Code != code {
		t.Fatalf("got code %q (%s), want %q", p.Code, p.Detail, code)
	}
	want := problemTypes[code]
	if w.Code != want.status || p.Status != want.status || p.Title != want.title {
		t.Errorf("got status %d, in the body %d %q; want %d %q", w.Code, p.Status, p.Title, want.status, want.title)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("got Content-Type %q, want application/problem+json", got)
	}
	if p.Type != "/problems/"+code || p.Detail == "" || p.Instance == "" {
		t.Errorf("got type %q, detail %q, instance %q", p.Type, p.Detail, p.Instance)
	}
	if id := w.Header().Get("X-Request-Id"); p.RequestID == "" || p.RequestID != id {
		t.Errorf("got request_id %q, want that of X-Request-Id, %q", p.RequestID, id)
	}
	return p
}

// faultyStore is a fakeStore that returns err, or panics if err is nil.
type faultyStore struct {
	*fakeStore
	err error
}

func (s *faultyStore) fail() error {
	if s.err == nil {
		panic("a fault of the store")
	}
	return s.err
}

func (s *faultyStore) Create(context.Context, payment.Payment) (payment.Payment, bool, error) {
	return payment.Payment{}, false, s.fail()
}

func (s *faultyStore) Find(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	return payment.Payment{}, s.fail()
}

func (s *faultyStore) FindDerived(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	return payment.Payment{}, s.fail()
}
