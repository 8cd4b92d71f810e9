package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client/clienttest"
)

func TestClient_Get(t *testing.T) {
	ledger := clienttest.New()
	c := newTestClient(t, nil, ledger.Serve(t).URL)
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
		seen := ledger.Seen()
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
		if seen := ledger.Seen(); seen[len(seen)-1].Path != "/payments/no/such?id" {
			t.Errorf("asked for %q", seen[len(seen)-1].Path)
		}
		_, err = c.FindByKey(t.Context(), "none")
		if p, ok := errors.AsType[*ProblemError](err); !ok || p.Code != "not_found" {
			t.Errorf("error %v", err)
		}
	})
}

// A wait that ends without the payment being sent is no error: the payment comes back as it is.
func TestClient_Get_WaitIsOver(t *testing.T) {
	ledger := clienttest.New()
	ledger.NeverSend = true
	c := newTestClient(t, nil, ledger.Serve(t).URL)
	created, err := c.Create(t.Context(), "key-1", testRequest())
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Wait(t.Context(), created.ID, 20*time.Millisecond)
	if err != nil || p.ID != created.ID || p.Status != "created" {
		t.Errorf("%+v, %v", p, err)
	}
}

// A service that lets go of its answers asks for another: the client goes on until the payment is sent, and takes a
// 503 on the way as it takes one elsewhere.
func TestClient_Get_AsksAgain(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch asked.Add(1) {
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
	if err != nil || p.Status != "accepted" || !p.Final || asked.Load() != 3 {
		t.Errorf("%+v, %v after %d", p, err, asked.Load())
	}
}

func TestProblem_Error(t *testing.T) {
	full := readProblem(422, http.Header{}, []byte(`{"type":"/problems/invalid_payment","status":200,"code":"invalid_payment",
		"detail":"2 fields are wrong","request_id":"r-1","errors":[
		{"pointer":"/amount","code":"too_small","detail":"at least 1"},{"pointer":"/currency","code":"unknown"}]}`))
	want := "422 invalid_payment: 2 fields are wrong [request r-1]\n  /amount: too_small: at least 1\n  /currency: unknown"
	if full.Error() != want || full.Status != 422 {
		t.Errorf("got  %q\nwant %q", full.Error(), want)
	}
	foreign := readProblem(502, http.Header{"X-Request-Id": {"r-2"}}, []byte("<h1>\x1b[31mBad\nGateway</h1>"+strings.Repeat("x", 9999)))
	text := foreign.Error()
	if !strings.HasPrefix(text, "502 Bad Gateway: <h1> [31mBad Gateway</h1>xxx") || !strings.HasSuffix(text, "x… [request r-2]") ||
		strings.ContainsAny(text, "\x1b\n") || len(text) > 300 {
		t.Errorf("got %q", text)
	}
	if text := readProblem(401, http.Header{}, nil).Error(); text != "401 Unauthorized" {
		t.Errorf("got %q", text)
	}
}
