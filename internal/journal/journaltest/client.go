// Package journaltest has a client and a topic for tests of loads, journals and audits.
package journaltest

import (
	"testing"
	"time"

	"github.com/paylatch/paylatch/client"
)

// APIKey is the API key of NewClient's clients.
const APIKey = "pl_test_0123456789"

// NewClient returns a client with short pauses and long time-outs. If change is not nil, it may
// change the configuration.
func NewClient(t *testing.T, change func(*client.Config), servers ...string) *client.Client {
	t.Helper()
	cfg := client.Config{
		Servers: servers, APIKey: APIKey,
		AttemptTimeout: 10 * time.Second, RetryFor: 20 * time.Second,
		BackoffFirst: time.Millisecond, BackoffMax: 4 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
