package loadtest

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
)

// fineWait is how long before a planned time the finer pause takes over from the timer. It is
// longer than timers are late (see pause).
const fineWait = 2 * time.Millisecond

// runOpen sends each request at its planned time.
func (l *load) runOpen() {
	d := dispatcher{
		inFlightMax: l.cfg.InFlight,
		pause:       pause,
		planned:     func(a arrival, delay time.Duration) { l.tally.planned(a, time.Now(), delay) },
		dropped:     func(a arrival) { l.tally.dropped(a, time.Now()) },
		worker: func() func(arrival) {
			random := newRandom()
			return func(a arrival) {
				t, planned := l.tenants[int(a.turn%int64(len(l.tenants)))], l.start.Add(a.after)
				// Errors are counted, and those that end the load have ended it.
				if a.kind == kindCreate {
					_ = l.create(t, a.step, planned, random)
					return
				}
				if found, _ := l.status(t, a.step, planned, random); !found {
					l.tally.skipped(a.step)
				}
			}
		},
	}
	d.run(l.accepting, l.start, arrivals(l.cfg.Steps, l.cfg.Reads, l.cfg.Count))
}

// dispatcher hands arrivals to workers at their time. It knows nothing of requests, so that a test
// can run it on a clock of its own.
type dispatcher struct {
	// inFlightMax bounds the arrivals that are handled at once.
	inFlightMax int
	// pause waits for the last two milliseconds before an arrival.
	pause func(time.Duration)
	// planned is called when the time of an arrival has come, with how long ago that was.
	planned func(a arrival, delay time.Duration)
	// dropped is called for an arrival that finds inFlightMax others.
	dropped func(arrival)
	// worker returns the function of a worker, which is called with one arrival at a time.
	worker func() func(arrival)
}

// run returns when all arrivals have been handled or ctx ends, and all workers have ended. A worker
// is started when it is first needed: a service that keeps up needs few connections.
func (d dispatcher) run(ctx context.Context, start time.Time, plan iter.Seq[arrival]) {
	var inFlight atomic.Int64
	var workers sync.WaitGroup
	started := int64(0)
	// Never full: no more than inFlightMax are in flight. So a worker is free for each arrival, or
	// about to be.
	queue := make(chan arrival, d.inFlightMax)
	for a := range plan {
		at := start.Add(a.after)
		if !d.await(ctx, at) {
			break
		}
		d.planned(a, time.Since(at))
		if inFlight.Load() >= int64(d.inFlightMax) {
			d.dropped(a)
			continue
		}
		if inFlight.Add(1) > started {
			started++
			workers.Go(func() {
				handle := d.worker()
				for a := range queue {
					handle(a)
					inFlight.Add(-1)
				}
			})
		}
		queue <- a
	}
	close(queue)
	workers.Wait()
}

// await waits for a moment, and reports whether ctx is still valid then.
func (d dispatcher) await(ctx context.Context, at time.Time) bool {
	if left := time.Until(at) - fineWait; left > 0 && sleep.For(ctx, left) != nil {
		return false
	}
	if left := time.Until(at); left > 0 {
		d.pause(left)
	}
	return ctx.Err() == nil
}
