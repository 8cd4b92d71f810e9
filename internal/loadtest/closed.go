package loadtest

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
)

// failurePause keeps a worker of a closed loop from flooding a service that fails at once.
const failurePause = 200 * time.Millisecond

// runClosed runs the workers until all have ended.
func (l *load) runClosed() {
	var workers sync.WaitGroup
	for n := range l.cfg.Workers {
		workers.Go(func() { l.work(n) })
	}
	workers.Wait()
}

// work makes a payment of one tenant, reads its status, and goes on with the next tenant.
func (l *load) work(n int) {
	random := newRandom()
	for ; l.accepting.Err() == nil && l.claim(); n++ {
		t := l.tenants[n%len(l.tenants)]
		if err := l.create(t, 0, time.Now(), random); err != nil {
			_ = sleep.For(l.accepting, failurePause) // The loop sees if the load ended.
		}
		for i := 0; i < l.cfg.Reads && l.accepting.Err() == nil; i++ {
			found, err := l.status(t, 0, time.Now(), random)
			if !found {
				break
			}
			if err != nil {
				_ = sleep.For(l.accepting, failurePause) // The loop sees if the load ended.
			}
		}
	}
}

// claim reports whether one more payment may be made.
func (l *load) claim() bool {
	return l.cfg.Count == 0 || l.claimed.Add(1) <= l.cfg.Count
}

func newRandom() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }
