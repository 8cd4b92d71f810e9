package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestProblem_OfError checks the response to each error of the store, to a create and to both
// queries. The text of an error is never sent.
func TestProblem_OfError(t *testing.T) {
	t.Parallel()
	const secret = "password"
	keyReused := &payment.KeyReusedError{Differs: []string{"/amount", "/sender/number"}}
	for name, row := range map[string]struct {
		err        error
		code       string
		retryAfter string
	}{
		"NotFound":     {payment.ErrNotFound, "not_found", ""},
		"Unauthorized": {payment.ErrUnauthorized, "unauthorized", ""},
		"Unavailable":  {fmt.Errorf("%w: "+secret, payment.ErrUnavailable), "unavailable", "1"},
		"NoSchema":     {payment.ErrNoSchema, "unavailable", "1"},
		"Deadline":     {context.DeadlineExceeded, "unavailable", "1"},
		"Cancelled":    {context.Canceled, "unavailable", "1"},
		"Unknown":      {errors.New(secret), "internal", ""},
		"Panic":        {nil, "internal", ""},
		"KeyReused":    {keyReused, "idempotency_key_reused", ""},
		"Invalid":      {&payment.InvalidError{Faults: []payment.Fault{{Pointer: "/amount"}}}, "invalid_payment", ""},
	} {
		t.Run(name, func(t *testing.T) {
			server, memory := newTestServer(t)
			server.store = &faultyStore{memory, row.err}
			for _, w := range []*httptest.ResponseRecorder{
				do(t, server, http.MethodPost, "/payments", sampleBody),
				do(t, server, http.MethodGet, "/payments/"+memory.stored.ID.String(), ""),
				do(t, server, http.MethodGet, "/payments?idempotency_key=k", ""),
			} {
				p := wantProblem(t, w, row.code)
				if got := w.Header().Get("Retry-After"); got != row.retryAfter {
					t.Errorf("got Retry-After %q, want %q", got, row.retryAfter)
				}
				if challenged := w.Header().Get("WWW-Authenticate") != ""; challenged != (row.code == "unauthorized") {
					t.Errorf("got WWW-Authenticate %q with %s", w.Header().Get("WWW-Authenticate"), row.code)
				}
				if strings.Contains(w.Body.String(), secret) {
					t.Errorf("got the text of the error in %s", w.Body)
				}
				if row.code == "idempotency_key_reused" && (len(p.Errors) != 2 || p.PaymentID == "") {
					t.Errorf("got %+v, want payment_id and two members that differ", p)
				}
			}
		})
	}
}

// TestProblem_Log: a fault of ours is logged as an error with its text. What a client did wrong is
// logged without any text, which may contain what it sent.
func TestProblem_Log(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	server, memory := newTestServer(t)
	server.logger = slog.New(slog.NewTextHandler(&log, nil))
	server.store = &faultyStore{memory, errors.New("disk on fire")}
	do(t, server, http.MethodPost, "/payments", sampleBody)
	if got := log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "disk on fire") {
		t.Errorf("got log %q, want an error with its text", got)
	}
	log.Reset()
	do(t, server, http.MethodPost, "/payments", `{"private": 1}`)
	if got := log.String(); !strings.Contains(got, "code=unknown_member") || strings.Contains(got, "private") {
		t.Errorf("got log %q, want the code only", got)
	}
	log.Reset()
	server.store = &faultyStore{memory, nil}
	do(t, server, http.MethodPost, "/payments", sampleBody)
	got := log.String()
	if !strings.Contains(got, "a fault of the store") || !strings.Contains(got, "request_test.go") {
		t.Errorf("got log %q, want the panic and its stack", got)
	}
}

// TestProblem_Explained: the type of each problem leads to a text, and is in the contract.
func TestProblem_Explained(t *testing.T) {
	t.Parallel()
	server, _ := newTestServer(t)
	for code, want := range problemTypes {
		w := do(t, server, http.MethodGet, "/problems/"+code, "")
		text := w.Body.String()
		if w.Code != http.StatusOK || !strings.Contains(text, want.title) || !strings.Contains(text, want.help) {
			t.Errorf("%s: got %d %q, want title and help", code, w.Code, w.Body)
		}
		if !bytes.Contains(OpenAPI, []byte(`"`+code+`"`)) {
			t.Errorf("got no %s in openapi.json", code)
		}
	}
	p := wantProblem(t, do(t, server, http.MethodGet, "/problems/none", ""), "not_found")
	if !strings.Contains(p.Detail, "invalid_payment") {
		t.Errorf("got detail %q, want the list of codes", p.Detail)
	}
}

// TestServer_Routes checks which methods each path has. All other paths are unknown: none is
// cleaned, redirected or matched in part.
func TestServer_Routes(t *testing.T) {
	t.Parallel()
	server, memory := newTestServer(t)
	server.readiness.checkOnce(t.Context())
	close(server.readiness.first)
	for path, allow := range map[string]string{
		"/payments": "GET, HEAD, POST", "/payments/" + memory.stored.ID.String(): "GET, HEAD",
		"/livez": "GET, HEAD", "/readyz": "GET, HEAD", "/openapi.json": "GET, HEAD", "/problems/internal": "GET, HEAD",
	} {
		for _, method := range []string{"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			w := do(t, server, method, path, "")
			wantProblem(t, w, "method_not_allowed")
			if got := w.Header().Get("Allow"); got != allow {
				t.Errorf("%s %s: got Allow %q, want %q", method, path, got, allow)
			}
		}
		if strings.Contains(allow, "POST") {
			continue
		}
		wantProblem(t, do(t, server, http.MethodPost, path, ""), "method_not_allowed")
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if w := do(t, server, method, path, ""); w.Code != http.StatusOK {
				t.Errorf("%s %s: got status %d, want 200", method, path, w.Code)
			}
		}
	}
	for _, path := range []string{
		"/", "/payments/", "//payments", "/payments//", "/payments/a/b", "/Payments", "/livez/", "/a/../livez",
		"/metrics",
		"/%6civez", "/payments%2Fa", "/problems/%69nternal", "/%70ayments",
	} {
		wantProblem(t, do(t, server, http.MethodGet, path, ""), "not_found")
	}
}

// TestServer_RequestID: an id that the client sends is used if it can be logged.
func TestServer_RequestID(t *testing.T) {
	t.Parallel()
	server, _ := newTestServer(t)
	longest := strings.Repeat("a", requestIDBytesMax)
	for sent, taken := range map[string]bool{
		"order-7": true, longest: true, longest + "a": false, "a b": false, "ä": false,
	} {
		w := do(t, server, http.MethodGet, "/livez", "", "X-Request-Id", sent)
		got := w.Header().Get("X-Request-Id")
		if taken != (got == sent) || got == "" {
			t.Errorf("sent %q: got %q", sent, got)
		}
	}
	first := do(t, server, http.MethodGet, "/livez", "").Header().Get("X-Request-Id")
	second := do(t, server, http.MethodGet, "/livez", "").Header().Get("X-Request-Id")
	if len(first) != 36 || first == second {
		t.Errorf("got %q and %q, want two UUIDs", first, second)
	}
}

// unreadable is a body that must not be read.
type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("got a read of the body, want none")
	return 0, io.EOF
}

// TestServer_Limits: a request beyond a limit is refused before its body is read.
func TestServer_Limits(t *testing.T) {
	t.Parallel()
	server, _ := newTestServer(t)
	server.limiter = newLimiter(TenantLimits{Rate: TenantRateMin, InFlight: 1})
	if w := do(t, server, http.MethodPost, "/payments", sampleBody); w.Code != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", w.Code, w.Body)
	}
	refused := func(code, retryAfter string) {
		t.Helper()
		r := request(t, http.MethodPost, "/payments", "")
		r.Body = io.NopCloser(unreadable{t})
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		wantProblem(t, w, code)
		if got := w.Header().Get("Retry-After"); got != retryAfter {
			t.Errorf("%s: got Retry-After %q, want %q", code, got, retryAfter)
		}
		if w.Header().Get("RateLimit") == "" || w.Header().Get("RateLimit-Policy") == "" {
			t.Errorf("%s: got header %v, want RateLimit and RateLimit-Policy", code, w.Header())
		}
	}
	refused("rate_limited", "100")
	if !server.limiter.usageOf(1).inFlight.tryAcquire(1) {
		t.Fatal("got a request in flight, want none")
	}
	refused("too_many_in_flight", "1")
}

// TestServer_Unauthorized: a credential that is no API key is refused without a query.
func TestServer_Unauthorized(t *testing.T) {
	t.Parallel()
	server, _ := newTestServer(t)
	key, err := payment.NewAPIKey("live")
	if err != nil {
		t.Fatal(err)
	}
	for _, authorization := range []string{
		"", "Bearer", "Bearer ", "Basic " + key.Reveal(), key.Reveal(), "Bearer " + key.Reveal() + "x",
	} {
		w := do(t, server, http.MethodPost, "/payments", sampleBody, "Authorization", authorization)
		wantProblem(t, w, "unauthorized")
		if got := w.Header().Get("WWW-Authenticate"); got != `Bearer realm="paylatch"` {
			t.Errorf("got WWW-Authenticate %q", got)
		}
	}
	w := do(t, server, http.MethodPost, "/payments", sampleBody, "Authorization", "bearer "+key.Reveal())
	if w.Code != http.StatusAccepted {
		t.Errorf("a lower-case scheme: got status %d, want 202", w.Code)
	}
}
