package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client/clienttest"
)

func TestClient_Get(t *testing.T) {
	service := clienttest.New()
	c := newTestClient(t, nil, service.Serve(t).URL)
	created, err := c.Create(t.Context(), "k&=?#'1", testRequest())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("AsItIs", func(t *testing.T) {
		p, err := c.Get(t.Context(), created.ID)
		if err != nil || p.Sent() || p.Position != nil || !p.SentAt.IsZero() {
			t.Errorf("%+v, %v", p, err)
		}
	})
	t.Run("Sent", func(t *testing.T) {
		p, err := c.Wait(t.Context(), created.ID, 1500*time.Millisecond)
		if err != nil || !p.Sent() || p.Position == nil || p.Position.Topic != "payments" || p.SentAt.IsZero() {
			t.Errorf("%+v, %v", p, err)
		}
		seen := service.Requests()
		if prefer := seen[len(seen)-1].Prefer; prefer != "wait=2" {
			t.Errorf("Prefer %q", prefer)
		}
	})
	t.Run("ByKey", func(t *testing.T) {
		p, err := c.FindByKey(t.Context(), "k&=?#'1")
		if err != nil || p.ID != created.ID {
			t.Errorf("%+v, %v", p, err)
		}
	})
	t.Run("NotFound", func(t *testing.T) {
		_, err := c.Wait(t.Context(), "no/such?id", time.Second)
		p, ok := errors.AsType[*ProblemError](err)
		if !ok || p.Code != "not_found" || p.RequestID != "req-1" {
			t.Errorf("error %v", err)
		}
		if seen := service.Requests(); seen[len(seen)-1].Path != "/payments/no/such?id" {
			t.Errorf("requests for %q", seen[len(seen)-1].Path)
		}
		_, err = c.FindByKey(t.Context(), "none")
		if p, ok := errors.AsType[*ProblemError](err); !ok || p.Code != "not_found" {
			t.Errorf("error %v", err)
		}
	})
}

// TestClient_Wait_TimeIsUp: a payment that is not sent in time is no error.
func TestClient_Wait_TimeIsUp(t *testing.T) {
	service := clienttest.New()
	service.NeverSend = true
	c := newTestClient(t, nil, service.Serve(t).URL)
	created, err := c.Create(t.Context(), "key-1", testRequest())
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Wait(t.Context(), created.ID, 20*time.Millisecond)
	if err != nil || p.ID != created.ID || p.Status != "created" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestClient_Wait_RequestsAgain: a service that responds early gets more requests, until the
// payment is sent. A 503 is retried.
func TestClient_Wait_RequestsAgain(t *testing.T) {
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch requests.Add(1) {
		case 1:
			_, _ = w.Write([]byte(`{"id":"p","status":"created","new_member":{"x":1}}`))
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = w.Write([]byte(`{"id":"p","status":"accepted","final":true}`))
		}
	}))
	t.Cleanup(s.Close)
	p, err := newTestClient(t, nil, s.URL).Wait(t.Context(), "p", 10*time.Second)
	if err != nil || p.Status != "accepted" || !p.Final || requests.Load() != 3 {
		t.Errorf("%+v, %v after %d", p, err, requests.Load())
	}
}
