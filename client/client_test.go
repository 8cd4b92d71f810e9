package client

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "pl_test_0123456789"

// newTestClient has short pauses; its budget is long, since no test is about how long it is unless it says so.
func newTestClient(t *testing.T, change func(*Config), servers ...string) *Client {
	t.Helper()
	cfg := Config{
		Servers: servers, Key: testKey,
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

func TestNew_AllFaultsTogether(t *testing.T) {
	_, err := New(Config{
		Servers: []string{"localhost:8080", "http://u:secret@h/", "http://ok:1/?q=1"},
		Key:     "two words", RetryFor: -1, AttemptTimeout: -1, Connections: -1,
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"localhost:8080", "http://u:xxxxx@h/", "http://ok:1/?q=1", "key:", "retry for:", "attempt timeout:", "connections:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	for _, secret := range []string{"two words", "secret"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows %q:\n%v", secret, err)
		}
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "servers:") || !strings.Contains(err.Error(), "key:") {
		t.Errorf("empty config: %v", err)
	}
}

func TestNew_ServersAreTrimmed(t *testing.T) {
	c := newTestClient(t, nil, " https://pay.example/base/ ")
	if c.servers[0] != "https://pay.example/base" {
		t.Errorf("server %q", c.servers[0])
	}
}
