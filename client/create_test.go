package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client/clienttest"
)

// TestClient_Create: a create ends in exactly one payment, whatever happens to its requests and
// responses.
func TestClient_Create(t *testing.T) {
	type faults = []clienttest.Fault
	for name, tc := range map[string]struct {
		faults   faults
		attempts int
		replayed bool
	}{
		"FirstTime":                 {nil, 1, false},
		"Unavailable":               {faults{clienttest.Unavailable}, 2, false},
		"BalancerWithoutReplica":    {faults{clienttest.Respond(502, "text/html", "<h1>Bad Gateway</h1>")}, 2, false},
		"ClosedBeforeItWasTaken":    {faults{clienttest.LoseRequest}, 2, false},
		"ClosedAfterItWasTaken":     {faults{clienttest.LoseResponse}, 2, true},
		"AnswerCutResponse":         {faults{clienttest.CutResponse}, 2, true},
		"ClosedOnAReusedConnection": {faults{clienttest.Unavailable, clienttest.LoseResponse}, 3, true},
		"ManyInARow":                {clienttest.Repeat(9, clienttest.Unavailable), 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			service := clienttest.New()
			c := newTestClient(t, nil, service.Serve(t, tc.faults...).URL)
			got, err := c.Create(t.Context(), "key-1", testRequest())
			if err != nil {
				t.Fatal(err)
			}
			if got.Attempts != tc.attempts || got.Replayed != tc.replayed || got.Key != "key-1" {
				t.Errorf("got %d attempts, replayed %v, key %q; want %d, %v, key-1",
					got.Attempts, got.Replayed, got.Key, tc.attempts, tc.replayed)
			}
			want, p := testRequest(), got.Payment
			if p.Amount != want.Amount || p.Originator != want.Originator || p.Receiver != want.Receiver ||
				p.Status != StatusCreated {
				t.Errorf("got %+v for %+v", p, want)
			}
			expectOnePayment(t, service, tc.attempts)
		})
	}
}

// TestClient_CreateAndWait: a create that waits accepts 200 and 202, and is sent again when its
// response is lost.
func TestClient_CreateAndWait(t *testing.T) {
	for name, tc := range map[string]struct {
		neverSend bool
		faults    []clienttest.Fault
		attempts  int
	}{
		"Sent":         {attempts: 1},
		"NotSent":      {neverSend: true, attempts: 1},
		"ResponseLost": {faults: []clienttest.Fault{clienttest.LoseResponse}, attempts: 2},
	} {
		t.Run(name, func(t *testing.T) {
			service := clienttest.New()
			service.NeverSend = tc.neverSend
			c := newTestClient(t, nil, service.Serve(t, tc.faults...).URL)
			got, err := c.CreateAndWait(t.Context(), "key-1", testRequest(), 1500*time.Millisecond)
			if err != nil || got.Sent() == tc.neverSend || got.Attempts != tc.attempts ||
				got.Replayed != (tc.attempts > 1) {
				t.Errorf("got %+v after %d attempts, replayed %v, error %v",
					got.Payment, got.Attempts, got.Replayed, err)
			}
			expectOnePayment(t, service, tc.attempts)
			if prefer := service.Requests()[0].Prefer; prefer != "wait=2" {
				t.Errorf("Prefer %q, want wait=2", prefer)
			}
		})
	}
}

// expectOnePayment checks that the requests that have arrived are equal, and made one payment.
func expectOnePayment(t *testing.T, service *clienttest.Service, requests int) {
	t.Helper()
	if n := service.Payments(); n != 1 {
		t.Errorf("%d payments", n)
	}
	seen := service.Requests()
	if len(seen) != requests {
		t.Errorf("%d requests, want %d", len(seen), requests)
	}
	for _, s := range seen {
		if s.Key != "key-1" || s.Body != seen[0].Body || s.Authorization != "Bearer "+testKey {
			t.Errorf("request %+v differs from the first %+v", s, seen[0])
		}
	}
}

// TestClient_Create_TimeoutGoesToTheNextServer: the first server stores the payment and never
// responds. The second one gets the same request, and has the payment.
func TestClient_Create_TimeoutGoesToTheNextServer(t *testing.T) {
	service := clienttest.New()
	first, second := service.Serve(t, clienttest.Stall), service.Serve(t)
	c := newTestClient(t, func(cfg *Config) { cfg.AttemptTimeout = time.Second }, first.URL, second.URL)
	result, err := c.Create(t.Context(), "key-1", testRequest())
	if err != nil {
		t.Fatal(err)
	}
	if result.Attempts != 2 || !result.Replayed {
		t.Errorf("attempts %d, replayed %v", result.Attempts, result.Replayed)
	}
	expectOnePayment(t, service, 2)
	if seen := service.Requests(); seen[0].Server != 0 || seen[1].Server != 1 {
		t.Errorf("servers %d, %d", seen[0].Server, seen[1].Server)
	}
}

// deadServer returns an address where no server listens any more.
func deadServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	return s.URL
}

// TestClient_Create_OneOfTwoServersDead: calls begin with each server in turn, so that every second
// one needs two attempts.
func TestClient_Create_OneOfTwoServersDead(t *testing.T) {
	service := clienttest.New()
	c := newTestClient(t, nil, deadServer(t), service.Serve(t).URL)
	var attempts []int
	for _, key := range []string{"a", "b", "c", "d"} {
		result, err := c.Create(t.Context(), key, testRequest())
		if err != nil {
			t.Fatal(err)
		}
		attempts = append(attempts, result.Attempts)
	}
	if !slices.Equal(attempts, []int{2, 1, 2, 1}) || service.Payments() != 4 {
		t.Errorf("attempts %v, %d payments", attempts, service.Payments())
	}
}

// TestClient_Create_RefusedIsNeverRetried: a refusal is final, and means that there is no payment.
func TestClient_Create_RefusedIsNeverRetried(t *testing.T) {
	for _, status := range []int{400, 401, 404, 405, 409, 413, 415, 422} {
		service := clienttest.New()
		refusal := clienttest.Respond(status, "application/problem+json", `{"code":"no"}`)
		c := newTestClient(t, nil, service.Serve(t, refusal).URL)
		result, err := c.Create(t.Context(), "key-1", testRequest())
		p, ok := errors.AsType[*ProblemError](err)
		if !ok || p.Status != status || result.Attempts != 1 || len(service.Requests()) != 1 {
			t.Errorf("%d: got error %v after %d attempts, %d requests",
				status, err, result.Attempts, len(service.Requests()))
		}
		if _, unknown := errors.AsType[*UnknownError](err); unknown {
			t.Errorf("%d: got an UnknownError", status)
		}
	}
}

// TestClient_Create_TooMany: 429 is retried, and is a refusal when the time is up.
func TestClient_Create_TooMany(t *testing.T) {
	tooMany := clienttest.Respond(429, "application/problem+json", `{"code":"rate_limited"}`)
	service := clienttest.New()
	c := newTestClient(t, nil, service.Serve(t, tooMany, tooMany).URL)
	result, err := c.Create(t.Context(), "key-1", testRequest())
	if err != nil || result.Attempts != 3 || result.Replayed || service.Payments() != 1 {
		t.Errorf("error %v after %d attempts, %d payments", err, result.Attempts, service.Payments())
	}
	// No time is left for a second attempt.
	slow := func(cfg *Config) { cfg.BackoffFirst, cfg.BackoffMax = time.Minute, time.Minute }
	c = newTestClient(t, slow, service.Serve(t, clienttest.Repeat(defaultAttemptsMax, tooMany)...).URL)
	_, err = c.Create(t.Context(), "key-2", testRequest())
	p, refused := errors.AsType[*ProblemError](err)
	if _, unknown := errors.AsType[*UnknownError](err); !refused || p.Status != 429 || unknown {
		t.Errorf("error %v", err)
	}
}

// TestClient_Create_Unknown: a create that fails although there may be a payment ends in an
// UnknownError with the key.
func TestClient_Create_Unknown(t *testing.T) {
	short := func(cfg *Config) { cfg.RetryFor = 300 * time.Millisecond }
	const payment = `{"id":"p","status":"created"}`
	responds := func(status int, body string) []clienttest.Fault {
		return []clienttest.Fault{clienttest.Respond(status, "application/json", body)}
	}
	unauthorized := clienttest.Respond(401, "application/problem+json", `{"code":"unauthorized","detail":"withdrawn"}`)
	for name, tc := range map[string]struct {
		change func(*Config)
		faults []clienttest.Fault
		taken  int
	}{
		"TimeIsUp":               {short, clienttest.Repeat(defaultAttemptsMax, clienttest.LoseResponse), 1},
		"UnavailableToTheEnd":    {short, clienttest.Repeat(defaultAttemptsMax, clienttest.Unavailable), 0},
		"NoResponseAtAll":        {short, []clienttest.Fault{clienttest.Stall}, 1},
		"RefusedAfterALostOne":   {nil, []clienttest.Fault{clienttest.LoseResponse, unauthorized}, 1},
		"InternalError":          {nil, responds(500, `{"code":"internal"}`), 0},
		"NotAPayment":            {nil, responds(202, "<h1>Welcome</h1>"), 0},
		"WithoutID":              {nil, responds(202, "{}"), 0},
		"IDNotPrintable":         {nil, responds(202, `{"id":"\u001b[31m","status":"created"}`), 0},
		"StatusNotInTheContract": {nil, responds(201, "{}"), 0},
		"TooLong":                {nil, responds(202, payment+strings.Repeat(" ", responseBytesMax)), 0},
	} {
		t.Run(name, func(t *testing.T) {
			service := clienttest.New()
			c := newTestClient(t, tc.change, service.Serve(t, tc.faults...).URL)
			result, err := c.Create(t.Context(), "key-1", testRequest())
			lost, ok := errors.AsType[*UnknownError](err)
			if !ok {
				t.Fatalf("error %v, want an UnknownError", err)
			}
			// The deadline may end the last attempt before it arrives.
			unseen := result.Attempts - len(service.Requests())
			if lost.Key != "key-1" || lost.Attempts != result.Attempts || unseen < 0 || unseen > 1 {
				t.Errorf("%+v for %d attempts and %d requests", lost, result.Attempts, len(service.Requests()))
			}
			if !strings.Contains(err.Error(), "idempotency key key-1") {
				t.Errorf("the key is not in: %v", err)
			}
			if service.Payments() != tc.taken {
				t.Errorf("%d payments taken, want %d: the fault did not fire", service.Payments(), tc.taken)
			}
		})
	}
}

// TestClient_Create_KeyReused: this refusal holds for all attempts, also for those whose response
// was lost.
func TestClient_Create_KeyReused(t *testing.T) {
	service := clienttest.New()
	c := newTestClient(t, nil, service.Serve(t, nil, clienttest.LoseRequest).URL)
	first, err := c.Create(t.Context(), "key-1", testRequest())
	if err != nil {
		t.Fatal(err)
	}
	other := testRequest()
	other.Amount++
	result, err := c.Create(t.Context(), "key-1", other)
	p, ok := err.(*ProblemError) //nolint:errorlint // It must not be wrapped in an UnknownError.
	if !ok || p.PaymentID != first.ID || result.Attempts != 2 {
		t.Errorf("error %v after %d attempts", err, result.Attempts)
	}
	if service.Payments() != 1 {
		t.Errorf("%d payments", service.Payments())
	}
}

// TestClient_Create_NoServerReached: nothing was sent, so the outcome is known.
func TestClient_Create_NoServerReached(t *testing.T) {
	for _, own := range []*http.Client{nil, {Transport: &http.Transport{DisableKeepAlives: true}}} {
		c := newTestClient(t, func(cfg *Config) {
			cfg.BackoffFirst, cfg.BackoffMax = time.Second, time.Second
			cfg.RetryFor, cfg.HTTPClient = 100*time.Millisecond, own
		}, deadServer(t), deadServer(t))
		result, err := c.Create(t.Context(), "key-1", testRequest())
		notSent, ok := errors.AsType[*NotSentError](err)
		if !ok || notSent.Attempts != 2 || !strings.Contains(err.Error(), "nothing was sent") {
			t.Fatalf("got error %v, want a NotSentError", err)
		}
		if _, unknown := errors.AsType[*UnknownError](err); unknown {
			t.Errorf("got an UnknownError: %v", err)
		}
		// The second server is tried at once. Then the pause is longer than what is left.
		if result.Attempts != 2 {
			t.Errorf("%d attempts for two servers", result.Attempts)
		}
	}
}

// TestClient_Create_TimeIsUpBeforeTheConnection: the server accepts connections and does not
// continue the TLS handshake. Nothing was sent then.
func TestClient_Create_TimeIsUpBeforeTheConnection(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, change := range map[string]func(*Config){
		"OfTheAttempt": func(cfg *Config) {
			cfg.AttemptTimeout, cfg.RetryFor = 50*time.Millisecond, 200*time.Millisecond
		},
		"OfTheCall": func(cfg *Config) { cfg.RetryFor = 50 * time.Millisecond },
	} {
		c := newTestClient(t, change, "https://"+silent.Addr().String())
		_, err := c.Create(t.Context(), "key-1", testRequest())
		if _, ok := errors.AsType[*NotSentError](err); !ok {
			t.Errorf("%s: got error %v, want a NotSentError", name, err)
		}
	}
}

// TestClient_Create_ContextEnds: the outcome is unknown if the context ends during an attempt, and
// known if it ended before.
func TestClient_Create_ContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	service := clienttest.New()
	service.OnCreate = func(int) { cancel() }
	c := newTestClient(t, nil, service.Serve(t, clienttest.Stall).URL)
	result, err := c.Create(ctx, "key-1", testRequest())
	_, unknown := errors.AsType[*UnknownError](err)
	if !unknown || !errors.Is(err, context.Canceled) || result.Attempts != 1 {
		t.Errorf("got error %v after %d attempts, want an UnknownError", err, result.Attempts)
	}
	result, err = c.Create(ctx, "key-2", testRequest())
	_, notSent := errors.AsType[*NotSentError](err)
	if !notSent || !errors.Is(err, context.Canceled) || result.Attempts != 0 {
		t.Errorf("got error %v after %d attempts, want a NotSentError", err, result.Attempts)
	}
}

// TestClient_Create_HandshakeFails: a server without TLS, and one with an untrusted certificate,
// get no byte of a payment.
func TestClient_Create_HandshakeFails(t *testing.T) {
	service := clienttest.New()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // It would log the failed handshakes.
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	plain := strings.Replace(service.Serve(t).URL, "http:", "https:", 1)
	for _, server := range []string{untrusted.URL, plain} {
		c := newTestClient(t, nil, server)
		result, err := c.Create(t.Context(), "key-1", testRequest())
		if err == nil || !strings.Contains(err.Error(), "nothing was sent") || result.Attempts != 1 {
			t.Errorf("%s: error %v after %d attempts", server, err, result.Attempts)
		}
	}
	if n := len(service.Requests()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

// TestClient_Create_RedirectIsNotFollowed: a redirect must not carry key and payment to another
// host.
func TestClient_Create_RedirectIsNotFollowed(t *testing.T) {
	service := clienttest.New()
	elsewhere := service.Serve(t)
	door := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/payments", http.StatusTemporaryRedirect))
	t.Cleanup(door.Close)
	for _, own := range []*http.Client{nil, {Transport: &http.Transport{DisableKeepAlives: true}}} {
		c := newTestClient(t, func(cfg *Config) { cfg.HTTPClient = own }, door.URL)
		if _, err := c.Create(t.Context(), "key-1", testRequest()); err == nil {
			t.Error("create followed the redirect")
		}
		// net/http never repeats the body of a create. It would follow with a read.
		if _, err := c.Get(t.Context(), "p"); err == nil || !strings.Contains(err.Error(), "status 307") {
			t.Errorf("read: %v", err)
		}
	}
	if n := len(service.Requests()); n != 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
}

func TestClient_Create_BadKey(t *testing.T) {
	service := clienttest.New()
	c := newTestClient(t, nil, service.Serve(t).URL)
	for _, key := range []string{"", "two words", "line\nbreak", "é", strings.Repeat("x", 256)} {
		if _, err := c.Create(t.Context(), key, testRequest()); err == nil {
			t.Errorf("%q was sent", key)
		}
		if _, err := c.FindByKey(t.Context(), key); err == nil {
			t.Errorf("%q was looked up", key)
		}
	}
	if n := len(service.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestClient_Create_Wire: the body is the JSON of the API, member for member.
func TestClient_Create_Wire(t *testing.T) {
	service := clienttest.New()
	c := newTestClient(t, nil, service.Serve(t).URL)
	_, err := c.Create(t.Context(), "key-1", Request{
		Amount: 25687, Currency: "USD",
		Originator: Party{"567", "Y"}, Beneficiary: Party{"123", "X"},
		Sender: Account{"checking", "765543322"}, Receiver: Account{"iban", "DE89370400440532013000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var sent, want map[string]any
	if err := json.Unmarshal([]byte(service.Requests()[0].Body), &sent); err != nil {
		t.Fatal(err)
	}
	const contract = `{"amount":25687,"currency":"USD",
		"originator":{"id":"567","name":"Y"},"beneficiary":{"id":"123","name":"X"},
		"sender":{"type":"checking","number":"765543322"},"receiver":{"type":"iban","number":"DE89370400440532013000"}}`
	if err := json.Unmarshal([]byte(contract), &want); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(sent)
	expected, _ := json.Marshal(want)
	if string(got) != string(expected) {
		t.Errorf("sent %s\nwant %s", got, expected)
	}
}
