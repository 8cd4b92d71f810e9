package loadtest

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// fineWait is how long before a request is due the timer is left for the finer pause: longer than timers are late (see pause).
const fineWait = 2 * time.Millisecond

// open sends each request when it is due.
func (l *load) open() {
	d := dispatcher{
		places: l.cfg.InFlight,
		pause:  pause,
		due:    func(a arrival, late time.Duration) { l.tally.due(a, time.Now(), late) },
		full:   func(a arrival) { l.tally.noPlace(a, time.Now()) },
		worker: func() func(arrival) {
			random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			return func(a arrival) { l.serve(a, random) }
		},
	}
	d.run(l.stopping, l.start, arrivals(l.cfg.Steps, l.cfg.Reads, l.cfg.Count))
}

// serve is one arrival's work. The errors are counted, and those that must end the load have ended it.
func (l *load) serve(a arrival, random *rand.Rand) {
	t, due := l.inTurn[int(a.turn%int64(len(l.inTurn)))], l.start.Add(a.after)
	if a.kind == creates {
		_ = l.write(t, a.step, due, random)
		return
	}
	if found, _ := l.read(t, a.step, due, random); !found {
		l.tally.noPayment(a.step)
	}
}

// dispatcher hands arrivals to workers at their time. It knows nothing of requests, so that a test can run it on a clock of its own.
type dispatcher struct {
	places int                          // arrivals under way at once
	pause  func(time.Duration)          // for the last two milliseconds before an arrival
	due    func(arrival, time.Duration) // an arrival's time has come, so long ago
	full   func(arrival)                // all places were taken; the arrival is dropped
	worker func() func(arrival)         // a worker's function; it has one arrival at a time
}

// run returns when all arrivals have been served or ctx is over, and all workers have ended. There is a worker for each place, started when it is first
// needed: a service that keeps up is asked over few connections.
func (d dispatcher) run(ctx context.Context, start time.Time, plan iter.Seq[arrival]) {
	var underWay atomic.Int64
	var workers sync.WaitGroup
	started := int64(0)
	handed := make(chan arrival, d.places) // Never full: not more are under way. So each arrival has a worker that is free or about to be.
	for a := range plan {
		at := start.Add(a.after)
		if !d.await(ctx, at) {
			break
		}
		d.due(a, time.Since(at))
		if underWay.Load() >= int64(d.places) {
			d.full(a)
			continue
		}
		if underWay.Add(1) > started {
			started++
			workers.Go(func() {
				serve := d.worker()
				for a := range handed {
					serve(a)
					underWay.Add(-1)
				}
			})
		}
		handed <- a
	}
	close(handed)
	workers.Wait()
}

// await waits for a moment, and tells whether ctx still holds then.
func (d dispatcher) await(ctx context.Context, at time.Time) bool {
	if left := time.Until(at) - fineWait; left > 0 && sleep(ctx, left) != nil {
		return false
	}
	if left := time.Until(at); left > 0 {
		d.pause(left)
	}
	return ctx.Err() == nil
}
