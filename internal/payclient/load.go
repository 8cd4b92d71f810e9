package payclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// LoadWorkersMax keeps one machine's client within the ports and descriptors that it usually has.
	LoadWorkersMax = 4096
	// recentMax is how many of its payments a worker reads from: the young ones, as clients that wait do.
	recentMax = 64
	// failurePause keeps a worker from hammering a service that fails at once.
	failurePause = 200 * time.Millisecond
	// progressEvery is how often the progress line moves.
	progressEvery = 500 * time.Millisecond
)

// LoadConfig says how much load. It ends with Duration or Count, whichever comes first; one of them is needed.
type LoadConfig struct {
	Workers  int           // each has one request in flight
	Duration time.Duration // 0: until Count
	Count    int64         // payments to make; 0: until Duration
	Reads    int           // status reads after each payment, of the worker's recent payments
	Progress io.Writer     // a terminal that shows how far it is; nil: none
}

func (cfg LoadConfig) check() error {
	var faults []error
	if cfg.Workers < 1 || cfg.Workers > LoadWorkersMax {
		faults = append(faults, fmt.Errorf("workers: %d is not within 1 and %d", cfg.Workers, LoadWorkersMax))
	}
	if cfg.Duration < 0 || cfg.Count < 0 || cfg.Reads < 0 {
		faults = append(faults, errors.New("duration, count, reads: none may be negative"))
	}
	if cfg.Duration == 0 && cfg.Count == 0 {
		faults = append(faults, errors.New("duration or count: one is needed"))
	}
	return errors.Join(faults...)
}

// Load makes payments and reads them, as fast as the answers come: a closed loop. Its latencies are those of clients
// that wait for their answers; a service that stalls also stalls the loop, and the requests that would have come in
// the meantime are in no percentile.
//
// When it ends, also because ctx does, requests in hand have one more attempt's time, so that a stop leaves no
// unknown outcomes behind without need. A refused payment ends it with an error: all are alike, and a million
// refusals tell no more than one. All other failures are counted in the report.
func Load(ctx context.Context, c *Client, cfg LoadConfig) (Report, error) {
	if err := cfg.check(); err != nil {
		return Report{}, err
	}
	stopping, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if cfg.Duration > 0 {
		var cancel context.CancelFunc
		stopping, cancel = context.WithTimeout(stopping, cfg.Duration)
		defer cancel()
	}
	inHand, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()

	l := &load{client: c, cfg: cfg, stopping: stopping, stop: stop, inHand: inHand, tally: newTally()}
	start := time.Now()
	var helpers, workers sync.WaitGroup
	helpers.Go(func() { abandonLater(stopping, inHand, abandon, c.attemptTimeout) })
	helpers.Go(func() { l.tally.show(inHand, cfg.Progress, start) })
	for range cfg.Workers {
		workers.Go(l.work)
	}
	workers.Wait()
	elapsed := time.Since(start)
	refusal := l.refusal.Load()
	stop(nil)
	abandon()
	helpers.Wait()

	report := l.tally.report(cfg.Workers, elapsed)
	report.Interrupted = ctx.Err() != nil
	if refusal != nil {
		return report, fmt.Errorf("load stopped: %w", *refusal)
	}
	return report, nil
}

// abandonLater gives requests in hand their grace once the load stops.
func abandonLater(stopping, inHand context.Context, abandon context.CancelFunc, grace time.Duration) {
	select {
	case <-stopping.Done():
	case <-inHand.Done():
		return
	}
	if sleep(inHand, grace) == nil {
		abandon()
	}
}

// load is one run.
type load struct {
	client   *Client
	cfg      LoadConfig
	stopping context.Context // over: take on no new work
	stop     context.CancelCauseFunc
	inHand   context.Context // over: drop also the work in hand
	claimed  atomic.Int64
	refusal  atomic.Pointer[error]
	tally    *tally
}

// work is one worker's loop: a payment, its reads, the next payment.
func (l *load) work() {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	var recent []string
	for made := 0; l.stopping.Err() == nil && l.claim(); {
		if id := l.write(random); id != "" {
			if len(recent) < recentMax {
				recent = append(recent, id)
			} else {
				recent[made%recentMax] = id
			}
			made++
		}
		for i := 0; i < l.cfg.Reads && len(recent) > 0 && l.stopping.Err() == nil; i++ {
			l.read(recent[random.IntN(len(recent))])
		}
	}
}

// claim takes the right to make one more payment.
func (l *load) claim() bool {
	return l.cfg.Count == 0 || l.claimed.Add(1) <= l.cfg.Count
}

func (l *load) write(random *rand.Rand) (id string) {
	key, err := NewKey()
	if err != nil {
		l.refuse(err)
		return ""
	}
	a, t, err := l.client.create(l.inHand, key, Sample(random))
	l.tally.write(a, t, err)
	if err == nil {
		return a.ID
	}
	if p, ok := err.(*Problem); ok && p.Status < http.StatusInternalServerError { //nolint:errorlint // one inside an UnknownError is no refusal
		l.refuse(err)
	}
	_ = sleep(l.stopping, failurePause) // cut short when the load stops, which the loop sees for itself
	return ""
}

func (l *load) read(id string) {
	start := time.Now()
	_, t, err := l.client.get(l.inHand, id, 0)
	l.tally.read(time.Since(start), t, err)
	if err != nil {
		_ = sleep(l.stopping, failurePause) // as above
	}
}

func (l *load) refuse(err error) {
	l.refusal.CompareAndSwap(nil, &err)
	l.stop(err)
}
