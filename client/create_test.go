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

// A create must end in exactly one payment whatever happens to its requests and answers. Each case breaks them in its
// way; the ledger then tells how many payments there are, and what the client has really sent.
func TestClient_Create(t *testing.T) {
	type faults = []clienttest.Fault
	for name, tc := range map[string]struct {
		faults   faults
		attempts int
		replayed bool
	}{
		"FirstTime":                 {nil, 1, false},
		"Unavailable":               {faults{clienttest.Unavailable}, 2, false},
		"BalancerWithoutReplica":    {faults{clienttest.Answer(502, "text/html", "<h1>Bad Gateway</h1>")}, 2, false},
		"ClosedBeforeItWasTaken":    {faults{clienttest.DropBefore}, 2, false},
		"ClosedAfterItWasTaken":     {faults{clienttest.DropAfter}, 2, true},
		"AnswerCutShort":            {faults{clienttest.CutShort}, 2, true},
		"ClosedOnAReusedConnection": {faults{clienttest.Unavailable, clienttest.DropAfter}, 3, true},
		"ManyInARow":                {clienttest.Each(9, clienttest.Unavailable), 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := clienttest.New()
			c := newTestClient(t, nil, ledger.Serve(t, tc.faults...).URL)
			answer, err := c.Create(t.Context(), "key-1", testRequest())
			if err != nil {
				t.Fatal(err)
			}
			if answer.Attempts != tc.attempts || answer.Replayed != tc.replayed || answer.Key != "key-1" {
				t.Errorf("attempts %d, replayed %v, key %q; want %d, %v, key-1", answer.Attempts, answer.Replayed, answer.Key, tc.attempts, tc.replayed)
			}
			want := testRequest()
			if answer.Amount != want.Amount || answer.Originator != want.Originator || answer.Receiver != want.Receiver || answer.Status != "created" {
				t.Errorf("answer %+v for %+v", answer.Payment, want)
			}
			expectOnePayment(t, ledger, tc.attempts)
		})
	}
}

// TestClient_CreateAndWait: a create that waits is a create: it takes 200 and 202, and is made
// again when its response is lost.
func TestClient_CreateAndWait(t *testing.T) {
	for name, tc := range map[string]struct {
		neverSend bool
		faults    []clienttest.Fault
		attempts  int
	}{
		"Sent":         {attempts: 1},
		"NotSent":      {neverSend: true, attempts: 1},
		"ResponseLost": {faults: []clienttest.Fault{clienttest.DropAfter}, attempts: 2},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := clienttest.New()
			ledger.NeverSend = tc.neverSend
			c := newTestClient(t, nil, ledger.Serve(t, tc.faults...).URL)
			answer, err := c.CreateAndWait(t.Context(), "key-1", testRequest(), 1500*time.Millisecond)
			if err != nil || answer.Sent() == tc.neverSend || answer.Attempts != tc.attempts || answer.Replayed != (tc.attempts > 1) {
				t.Errorf("%+v after %d attempts, replayed %v, error %v", answer.Payment, answer.Attempts, answer.Replayed, err)
			}
			expectOnePayment(t, ledger, tc.attempts)
			if prefer := ledger.Seen()[0].Prefer; prefer != "wait=2" {
				t.Errorf("Prefer %q, want wait=2", prefer)
			}
		})
	}
}

// expectOnePayment looks at what has arrived: so many requests, all alike.
func expectOnePayment(t *testing.T, ledger *clienttest.Ledger, requests int) {
	t.Helper()
	if n := ledger.Payments(); n != 1 {
		t.Errorf("%d payments", n)
	}
	seen := ledger.Seen()
	if len(seen) != requests {
		t.Errorf("%d requests, want %d", len(seen), requests)
	}
	for _, s := range seen {
		if s.Key != "key-1" || s.Body != seen[0].Body || s.Auth != "Bearer "+testKey {
			t.Errorf("request %+v differs from the first %+v", s, seen[0])
		}
	}
}

// The first server takes the payment and never answers. The second must get the very same request, and tell that
// the payment is there.
func TestClient_Create_TimeoutGoesToTheNextServer(t *testing.T) {
	ledger := clienttest.New()
	first, second := ledger.Serve(t, clienttest.Stall), ledger.Serve(t)
	c := newTestClient(t, func(cfg *Config) { cfg.AttemptTimeout = time.Second }, first.URL, second.URL)
	answer, err := c.Create(t.Context(), "key-1", testRequest())
	if err != nil {
		t.Fatal(err)
	}
	if answer.Attempts != 2 || !answer.Replayed {
		t.Errorf("attempts %d, replayed %v", answer.Attempts, answer.Replayed)
	}
	expectOnePayment(t, ledger, 2)
	if seen := ledger.Seen(); seen[0].Server != 0 || seen[1].Server != 1 {
		t.Errorf("servers %d, %d", seen[0].Server, seen[1].Server)
	}
}

// deadServer is an address where nobody listens any more.
func deadServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	return s.URL
}

// One of two servers is dead. Fresh requests go round, so that each second one meets it first, and all arrive.
func TestClient_Create_OneOfTwoServersDead(t *testing.T) {
	ledger := clienttest.New()
	c := newTestClient(t, nil, deadServer(t), ledger.Serve(t).URL)
	var attempts []int
	for _, key := range []string{"a", "b", "c", "d"} {
		answer, err := c.Create(t.Context(), key, testRequest())
		if err != nil {
			t.Fatal(err)
		}
		attempts = append(attempts, answer.Attempts)
	}
	if !slices.Equal(attempts, []int{2, 1, 2, 1}) || ledger.Payments() != 4 {
		t.Errorf("attempts %v, %d payments", attempts, ledger.Payments())
	}
}

// Refusals are final, and say that there is no payment.
func TestClient_Create_RefusedIsNeverRetried(t *testing.T) {
	for _, status := range []int{400, 401, 404, 405, 409, 413, 415, 422} {
		ledger := clienttest.New()
		c := newTestClient(t, nil, ledger.Serve(t, clienttest.Answer(status, "application/problem+json", `{"code":"no"}`)).URL)
		answer, err := c.Create(t.Context(), "key-1", testRequest())
		p, ok := errors.AsType[*ProblemError](err)
		if !ok || p.Status != status || answer.Attempts != 1 || len(ledger.Seen()) != 1 {
			t.Errorf("%d: error %v after %d attempts, %d requests", status, err, answer.Attempts, len(ledger.Seen()))
		}
		if _, unknown := errors.AsType[*UnknownError](err); unknown {
			t.Errorf("%d: called unknown", status)
		}
	}
}

// A rate that is exceeded is a refusal for now: the service says when to come back. At the end of the client's patience it is a refusal.
func TestClient_Create_TooMany(t *testing.T) {
	tooMany := clienttest.Answer(429, "application/problem+json", `{"code":"rate_limited"}`)
	ledger := clienttest.New()
	answer, err := newTestClient(t, nil, ledger.Serve(t, tooMany, tooMany).URL).Create(t.Context(), "key-1", testRequest())
	if err != nil || answer.Attempts != 3 || answer.Replayed || ledger.Payments() != 1 {
		t.Errorf("error %v after %d attempts, %d payments", err, answer.Attempts, ledger.Payments())
	}
	patient := func(cfg *Config) { cfg.BackoffFirst, cfg.BackoffMax = time.Minute, time.Minute } // No time is left for a second attempt, and none is cut off.
	_, err = newTestClient(t, patient, ledger.Serve(t, clienttest.Each(defaultAttemptsMax, tooMany)...).URL).Create(t.Context(), "key-2", testRequest())
	p, refused := errors.AsType[*ProblemError](err)
	if _, unknown := errors.AsType[*UnknownError](err); !refused || p.Status != 429 || unknown {
		t.Errorf("error %v", err)
	}
}

// When the client cannot know, it must say so, with the key. Each case ends without a success although something may
// have been taken.
func TestClient_Create_Unknown(t *testing.T) {
	short := func(cfg *Config) { cfg.RetryFor = 300 * time.Millisecond }
	unauthorized := clienttest.Answer(401, "application/problem+json", `{"code":"unauthorized","detail":"withdrawn"}`)
	for name, tc := range map[string]struct {
		change func(*Config)
		faults []clienttest.Fault
		taken  int
	}{
		"TimeIsUp":               {short, clienttest.Each(defaultAttemptsMax, clienttest.DropAfter), 1},
		"UnavailableToTheEnd":    {short, clienttest.Each(defaultAttemptsMax, clienttest.Unavailable), 0},
		"NoAnswerAtAll":          {short, []clienttest.Fault{clienttest.Stall}, 1},
		"RefusedAfterALostOne":   {nil, []clienttest.Fault{clienttest.DropAfter, unauthorized}, 1},
		"InternalError":          {nil, []clienttest.Fault{clienttest.Answer(500, "application/problem+json", `{"code":"internal"}`)}, 0},
		"AnswerIsNoPayment":      {nil, []clienttest.Fault{clienttest.Answer(202, "text/html", "<h1>Welcome</h1>")}, 0},
		"AnswerWithoutID":        {nil, []clienttest.Fault{clienttest.Answer(202, "application/json", "{}")}, 0},
		"AnswerNotInTheContract": {nil, []clienttest.Fault{clienttest.Answer(201, "application/json", "{}")}, 0},
		"AnswerTooLong":          {nil, []clienttest.Fault{clienttest.Answer(202, "application/json", `{"id":"p","status":"created"}`+strings.Repeat(" ", responseBytesMax))}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := clienttest.New()
			c := newTestClient(t, tc.change, ledger.Serve(t, tc.faults...).URL)
			answer, err := c.Create(t.Context(), "key-1", testRequest())
			lost, ok := errors.AsType[*UnknownError](err)
			if !ok {
				t.Fatalf("error %v, want an UnknownError", err)
			}
			// The end of all time may cut the last attempt before it arrives.
			unseen := answer.Attempts - len(ledger.Seen())
			if lost.Key != "key-1" || lost.Attempts != answer.Attempts || unseen < 0 || unseen > 1 {
				t.Errorf("%+v for %d attempts and %d requests", lost, answer.Attempts, len(ledger.Seen()))
			}
			if !strings.Contains(err.Error(), "idempotency key key-1") {
				t.Errorf("the key is not in: %v", err)
			}
			if ledger.Payments() != tc.taken {
				t.Errorf("%d payments taken, want %d: the fault did not fire", ledger.Payments(), tc.taken)
			}
		})
	}
}

// That the key is already another payment's is an answer for all attempts, lost ones included.
func TestClient_Create_KeyReused(t *testing.T) {
	ledger := clienttest.New()
	c := newTestClient(t, nil, ledger.Serve(t, nil, clienttest.DropBefore).URL)
	first, err := c.Create(t.Context(), "key-1", testRequest())
	if err != nil {
		t.Fatal(err)
	}
	other := testRequest()
	other.Amount++
	answer, err := c.Create(t.Context(), "key-1", other)
	p, ok := err.(*ProblemError) //nolint:errorlint // it must not be wrapped in an UnknownError
	if !ok || p.PaymentID != first.ID || answer.Attempts != 2 {
		t.Errorf("error %v after %d attempts", err, answer.Attempts)
	}
	if ledger.Payments() != 1 {
		t.Errorf("%d payments", ledger.Payments())
	}
}

// Nobody could be reached: then nothing was sent, and the outcome is known.
func TestClient_Create_NobodyReached(t *testing.T) {
	for _, own := range []*http.Client{nil, {Transport: &http.Transport{DisableKeepAlives: true}}} {
		c := newTestClient(t, func(cfg *Config) {
			cfg.BackoffFirst, cfg.BackoffMax, cfg.RetryFor, cfg.HTTPClient = time.Second, time.Second, 100*time.Millisecond, own
		},
			deadServer(t), deadServer(t))
		answer, err := c.Create(t.Context(), "key-1", testRequest())
		if err == nil || !strings.Contains(err.Error(), "nothing was sent") {
			t.Fatalf("error %v", err)
		}
		if _, unknown := errors.AsType[*UnknownError](err); unknown {
			t.Errorf("called unknown: %v", err)
		}
		// The second server at once; then the pause is longer than what is left.
		if answer.Attempts != 2 {
			t.Errorf("%d attempts for two servers", answer.Attempts)
		}
	}
}

// Time may also be up while a connection is still being made: the server accepts and does not go on with the TLS
// handshake. That is no more a reason to call the outcome unknown than a refused connection is.
func TestClient_Create_TimeIsUpBeforeTheConnection(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, change := range map[string]func(*Config){
		"OfTheAttempt": func(cfg *Config) { cfg.AttemptTimeout, cfg.RetryFor = 50*time.Millisecond, 200*time.Millisecond },
		"OfTheCall":    func(cfg *Config) { cfg.RetryFor = 50 * time.Millisecond },
	} {
		c := newTestClient(t, change, "https://"+silent.Addr().String())
		_, err := c.Create(t.Context(), "key-1", testRequest())
		if _, unknown := errors.AsType[*UnknownError](err); unknown || err == nil || !strings.Contains(err.Error(), "nothing was sent") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A caller who gives up while an answer is due has an unknown outcome; one who gave up before has none.
func TestClient_Create_CallerGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ledger := clienttest.New()
	ledger.OnTake = func(int) { cancel() }
	c := newTestClient(t, nil, ledger.Serve(t, clienttest.Stall).URL)
	answer, err := c.Create(ctx, "key-1", testRequest())
	if _, unknown := errors.AsType[*UnknownError](err); !unknown || !errors.Is(err, context.Canceled) || answer.Attempts != 1 {
		t.Errorf("error %v after %d attempts", err, answer.Attempts)
	}
	answer, err = c.Create(ctx, "key-2", testRequest())
	if _, unknown := errors.AsType[*UnknownError](err); unknown || !errors.Is(err, context.Canceled) || answer.Attempts != 0 {
		t.Errorf("error %v after %d attempts", err, answer.Attempts)
	}
}

// A server that speaks no TLS, and one that nobody vouches for, get not a byte of a payment.
func TestClient_Create_HandshakeFails(t *testing.T) {
	ledger := clienttest.New()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains about what is wanted here
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	plain := strings.Replace(ledger.Serve(t).URL, "http:", "https:", 1)
	for _, server := range []string{untrusted.URL, plain} {
		c := newTestClient(t, nil, server)
		answer, err := c.Create(t.Context(), "key-1", testRequest())
		if err == nil || !strings.Contains(err.Error(), "nothing was sent") || answer.Attempts != 1 {
			t.Errorf("%s: error %v after %d attempts", server, err, answer.Attempts)
		}
	}
	if n := len(ledger.Seen()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

// A redirect must not carry key and payment elsewhere.
func TestClient_Create_RedirectIsNotFollowed(t *testing.T) {
	ledger := clienttest.New()
	elsewhere := ledger.Serve(t)
	door := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/payments", http.StatusTemporaryRedirect))
	t.Cleanup(door.Close)
	for _, own := range []*http.Client{nil, {Transport: &http.Transport{DisableKeepAlives: true}}} {
		c := newTestClient(t, func(cfg *Config) { cfg.HTTPClient = own }, door.URL)
		if _, err := c.Create(t.Context(), "key-1", testRequest()); err == nil {
			t.Error("create followed the redirect")
		}
		// net/http would not repeat the body of a create in any case; a read is what it follows with.
		if _, err := c.Get(t.Context(), "p"); err == nil || !strings.Contains(err.Error(), "status 307") {
			t.Errorf("read: %v", err)
		}
	}
	if n := len(ledger.Seen()); n != 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
}

func TestClient_Create_BadKey(t *testing.T) {
	ledger := clienttest.New()
	c := newTestClient(t, nil, ledger.Serve(t).URL)
	for _, key := range []string{"", "two words", "line\nbreak", "é", strings.Repeat("x", 256)} {
		if _, err := c.Create(t.Context(), key, testRequest()); err == nil {
			t.Errorf("%q was sent", key)
		}
		if _, err := c.FindByKey(t.Context(), key); err == nil {
			t.Errorf("%q was looked up", key)
		}
	}
	if n := len(ledger.Seen()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// The pause is the pure part of waiting: bounded, doubled, jittered, and at least what the server asks for.
func TestClient_Pause(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("refused")}
	c := newTestClient(t, func(cfg *Config) {
		cfg.BackoffFirst, cfg.BackoffMax = 100*time.Millisecond, time.Second
	}, "http://a", "http://b")
	within := func(what string, got, low, high time.Duration) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("%s: %v is not within %v and %v", what, got, low, high)
		}
	}
	for range 200 {
		within("next server after a dead one", c.pause(1, refused), 0, 0)
		within("all servers dead", c.pause(2, refused), 100*time.Millisecond, 200*time.Millisecond)
		within("503", c.pause(1, &ProblemError{Status: 503}), 50*time.Millisecond, 100*time.Millisecond)
		within("503 with a wish", c.pause(1, &ProblemError{Status: 503, retryAfter: 3 * time.Second}), 3050*time.Millisecond, 3100*time.Millisecond)
		within("long after", c.pause(99, refused), 500*time.Millisecond, time.Second)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"0": 0, "2": 2 * time.Second, "86400": retryAfterMax,
		"Mon, 23 Nov 2026 12:00:04 GMT": 4 * time.Second,
		"Mon, 23 Nov 2026 11:59:00 GMT": 0,
		"Tue, 24 Nov 2026 12:00:00 GMT": retryAfterMax,
	} {
		if got, ok := retryAfter(v, now); got != want || !ok {
			t.Errorf("%q: got %v, %t, want %v", v, got, ok, want)
		}
	}
	for _, v := range []string{"", "-1", "soon", "99999999999999999999"} {
		if got, ok := retryAfter(v, now); got != 0 || ok {
			t.Errorf("%q: got %v, %t, want none", v, got, ok)
		}
	}
}

// What is sent is the contract's JSON, member for member.
func TestClient_Create_Wire(t *testing.T) {
	ledger := clienttest.New()
	c := newTestClient(t, nil, ledger.Serve(t).URL)
	_, err := c.Create(t.Context(), "key-1", Request{
		Amount: 25687, Currency: "USD",
		Originator: Party{"567", "Y"}, Beneficiary: Party{"123", "X"},
		Sender: Account{"checking", "765543322"}, Receiver: Account{"iban", "DE89370400440532013000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var sent, want map[string]any
	if err := json.Unmarshal([]byte(ledger.Seen()[0].Body), &sent); err != nil {
		t.Fatal(err)
	}
	const contract = `{"amount":25687,"currency":"USD","originator":{"id":"567","name":"Y"},"beneficiary":{"id":"123","name":"X"},
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
