package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/payment"
)

// fakeStore is a Store in memory with one payment. A benchmark with it measures the cost of this
// package alone.
type fakeStore struct {
	tenant payment.Tenant
	stored payment.Payment
	// free makes every idempotency key free. Otherwise each stands for the payment.
	free bool
}

func (s *fakeStore) Authenticate(context.Context, payment.APIKeyHash) (payment.Access, error) {
	return payment.Access{Tenant: s.tenant, Scopes: payment.AllScopes}, nil
}

func (s *fakeStore) Create(_ context.Context, p payment.Payment) (payment.Payment, bool, error) {
	p.CreatedAt = s.stored.CreatedAt
	return p, false, nil
}

func (s *fakeStore) Find(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	return s.stored, nil
}

func (s *fakeStore) Look(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	return s.stored, nil
}

func (s *fakeStore) FindDerived(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	if s.free {
		return payment.Payment{}, payment.ErrNotFound
	}
	return s.stored, nil
}

func (s *fakeStore) Ready(context.Context) ([]int32, error) { return nil, nil }

const sampleBody = `{"amount": 25687, "currency": "USD",
	"originator": {"id": "567", "name": "Yolanda Quist"}, "beneficiary": {"id": "123", "name": "Xavier Zork"},
	"sender": {"type": "checking", "number": "765543322"},
	"receiver": {"type": "iban", "number": "DE89370400440532013000"}, "reference": "INV-7"}`

// newTestServer returns a server over a fakeStore with one payment, which is sent.
func newTestServer(tb testing.TB) (*Server, *fakeStore) {
	tb.Helper()
	content, faults, err := decode([]byte(sampleBody))
	if err != nil || len(faults) > 0 {
		tb.Fatal(err, faults)
	}
	key, err := payment.ParseKey(uuid.Must(uuid.NewV7()).String())
	if err != nil {
		tb.Fatal(err)
	}
	store := &fakeStore{tenant: payment.Tenant{TenantRef: payment.TenantRef{ID: 1, Name: "acme"}}}
	store.stored, err = payment.New(store.tenant, key, content)
	if err != nil {
		tb.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 12, 0, 0, 123_456_000, time.UTC)
	store.stored.Status, store.stored.CreatedAt = payment.StatusSent, at
	store.stored.Emission = &payment.Emission{At: at.Add(8 * time.Millisecond), Topic: "payments", Offset: 41}
	config := Config{Limits: TenantLimits{InFlight: TenantInFlightDefault}}
	return New(store, config, quiet, NewMetrics(prometheus.NewRegistry())), store
}

// responseSink is an http.ResponseWriter that drops the body.
type responseSink struct {
	header http.Header
	status int
	bytes  int
}

func (w *responseSink) Header() http.Header { return w.header }

func (w *responseSink) Write(b []byte) (int, error) {
	w.bytes += len(b)
	return len(b), nil
}

func (w *responseSink) WriteHeader(status int) { w.status = status }

// cost measures one request in this package, from the routes to the response. It measures neither
// net/http nor the store.
func cost(b *testing.B, want int, request func(apiKey string) *http.Request) {
	b.Helper()
	s, _ := newTestServer(b)
	apiKey, err := payment.NewAPIKey("live")
	if err != nil {
		b.Fatal(err)
	}
	r := request(apiKey.Reveal())
	body, _ := io.ReadAll(r.Body)
	w := &responseSink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		s.ServeHTTP(w, r)
	}
	if w.status != want {
		b.Fatalf("got status %d, want %d", w.status, want)
	}
}

func BenchmarkCreate(b *testing.B) {
	cost(b, http.StatusAccepted, func(apiKey string) *http.Request {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/payments", strings.NewReader(sampleBody))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+apiKey)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", uuid.Must(uuid.NewV7()).String())
		return r
	})
}

func BenchmarkStatus(b *testing.B) {
	_, store := newTestServer(b)
	cost(b, http.StatusOK, func(apiKey string) *http.Request {
		target := "/payments/" + store.stored.ID.String()
		r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, target, http.NoBody)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+apiKey)
		return r
	})
}
