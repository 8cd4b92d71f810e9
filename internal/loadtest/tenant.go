package loadtest

import (
	"math/rand/v2"
	"sync"

	"github.com/paylatch/paylatch/client"
)

// recentMax is the number of payments of a tenant that are read from: recent ones, as clients do
// that wait for a payment.
const recentMax = 64

// tenant is one of those on whose behalf a load calls the service.
type tenant struct {
	client *client.Client
	name   string // The fingerprint of its API key.

	mu   sync.Mutex
	made int
	ids  [recentMax]string
}

// remember keeps the most recent payments.
func (t *tenant) remember(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids[t.made%recentMax] = id
	t.made++
}

// recent returns one of them, or "" if there is none.
func (t *tenant) recent(random *rand.Rand) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made == 0 {
		return ""
	}
	return t.ids[random.IntN(min(t.made, recentMax))]
}
