package client

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paylatch/paylatch/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "pl_test_0123456789"

// newTestClient returns a client with short pauses and long time-outs.
func newTestClient(t *testing.T, change func(*Config), servers ...string) *Client {
	t.Helper()
	cfg := Config{
		Servers: servers, APIKey: testKey,
		AttemptTimeout: 10 * time.Second, RetryFor: 20 * time.Second,
		BackoffFirst: time.Millisecond, BackoffMax: 4 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testRequest() Request {
	return Request{
		Amount: 25687, Currency: "USD",
		Originator: Party{"567", "Y & Z"}, Beneficiary: Party{"123", "Müller"},
		Sender: Account{"checking", "765543322"}, Receiver: Account{"iban", "DE89370400440532013000"},
		Reference: "INV-000007",
	}
}

// TestNew_AllFaultsTogether: no secret may be part of an error.
func TestNew_AllFaultsTogether(t *testing.T) {
	_, err := New(Config{
		Servers: []string{"localhost:8080", "http://u:secret@h/", "http://ok:1/?q=1"},
		APIKey:  "two words", RetryFor: -1, AttemptTimeout: -1, Connections: -1,
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"localhost:8080", "http://u:xxxxx@h/", "http://ok:1/?q=1", "key:", "retry for:", "attempt timeout:",
		"connections:",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	for _, secret := range []string{"two words", "secret"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows %q:\n%v", secret, err)
		}
	}
	_, err = New(Config{})
	if err == nil || !strings.Contains(err.Error(), "servers:") || !strings.Contains(err.Error(), "key:") {
		t.Errorf("empty config: got %v", err)
	}
}

func TestNew_ServersAreTrimmed(t *testing.T) {
	c := newTestClient(t, nil, " https://pay.example/base/ ")
	if c.servers[0] != "https://pay.example/base" {
		t.Errorf("server %q", c.servers[0])
	}
}

// TestClient_ForTenant: both clients use their own key, and neither fingerprint shows it.
func TestClient_ForTenant(t *testing.T) {
	service := clienttest.New()
	first := newTestClient(t, nil, service.Serve(t).URL)
	second, err := first.ForTenant("pl_test_second")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []*Client{first, second} {
		if _, err := c.Create(t.Context(), fmt.Sprint("key-", i), testRequest()); err != nil {
			t.Fatal(err)
		}
	}
	requests := service.Requests()
	if requests[0].Authorization != "Bearer "+testKey || requests[1].Authorization != "Bearer pl_test_second" {
		t.Errorf("got %+v", requests)
	}
	// printf pl_test_second | sha256sum
	if got := second.KeyFingerprint(); got != "ce0786337d1dac76" || got == first.KeyFingerprint() {
		t.Errorf("got fingerprint %q", got)
	}
	if _, err := first.ForTenant("two words"); err == nil || strings.Contains(err.Error(), "two words") {
		t.Errorf("got error %v, want one that does not show the key", err)
	}
}

// TestRequest_encode: what encoding/json would replace is not sent.
func TestRequest_encode(t *testing.T) {
	r := testRequest()
	r.Originator.Name = "\xff"
	if body, err := r.encode(); err == nil {
		t.Errorf("got %s, want an error", body)
	}
}
