package loadtest

import (
	"math/rand/v2"
	"sync"
	"time"
)

// failurePause keeps a worker of a closed loop from hammering a service that fails at once. An open load has its own pace.
const failurePause = 200 * time.Millisecond

// closed runs the workers to their end.
func (l *load) closed() {
	var workers sync.WaitGroup
	for n := range l.cfg.Workers {
		workers.Go(func() { l.loop(n) })
	}
	workers.Wait()
}

// loop is one worker's: a payment, its reads, the next payment, of the next tenant.
func (l *load) loop(n int) {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	for ; l.stopping.Err() == nil && l.claim(); n++ {
		t := l.inTurn[n%len(l.inTurn)]
		if err := l.write(t, 0, time.Now(), random); err != nil {
			_ = sleep(l.stopping, failurePause) // cut short when the load stops, which the loop sees for itself
		}
		for i := 0; i < l.cfg.Reads && l.stopping.Err() == nil; i++ {
			found, err := l.read(t, 0, time.Now(), random)
			if !found {
				break
			}
			if err != nil {
				_ = sleep(l.stopping, failurePause) // as above
			}
		}
	}
}

// claim takes the right to make one more payment.
func (l *load) claim() bool {
	return l.cfg.Count == 0 || l.claimed.Add(1) <= l.cfg.Count
}
