package payclient

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"sync"
)

// ForTenant returns a client of the same servers, over the same connections, that speaks for the tenant of another API key.
func (c *Client) ForTenant(key string) (*Client, error) {
	if err := checkAPIKey(key); err != nil {
		return nil, err
	}
	return &Client{
		servers: c.servers, key: key, authorization: []string{"Bearer " + key}, attemptTimeout: c.attemptTimeout, retryFor: c.retryFor,
		backoffFirst: c.backoffFirst, backoffMax: c.backoffMax, http: c.http, owned: c.owned,
	}, nil
}

// checkAPIKey does not show the value: it is a secret.
func checkAPIKey(key string) error {
	switch {
	case key == "":
		return errors.New("key: an API key is needed")
	case !visibleASCII(key):
		return errors.New("key: an API key is made of visible ASCII only")
	}
	return nil
}

// fingerprint names the tenant of an API key without giving the key away: 64 bits of its hash tell as much of it as nothing.
func (c *Client) fingerprint() string {
	sum := sha256.Sum256([]byte(c.key))
	return hex.EncodeToString(sum[:8])
}

// tenant is one of those that a load speaks for.
type tenant struct {
	client *Client
	name   string // its key's fingerprint

	mu   sync.Mutex
	made int
	ids  [recentMax]string
}

// remember keeps the youngest payments.
func (t *tenant) remember(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids[t.made%recentMax] = id
	t.made++
}

// recent is one of them, or "" when there is none.
func (t *tenant) recent(random *rand.Rand) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made == 0 {
		return ""
	}
	return t.ids[random.IntN(min(t.made, recentMax))]
}
