package loadtest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
	"github.com/paylatch/paylatch/internal/journal/journaltest"
)

// dispatchLog is what a dispatcher did, on the clock of a test.
type dispatchLog struct {
	mu sync.Mutex
	// handled has the times from planned to done, in order of being done.
	handled []time.Duration
	dropped []arrival
	delay   time.Duration
	workers int
}

// dispatched runs a plan on the clock of the test. took returns how long a request takes.
func dispatched(ctx context.Context, inFlight int, steps []Step, took func(arrival) time.Duration) *dispatchLog {
	o := &dispatchLog{}
	start := time.Now()
	dispatcher{
		inFlightMax: inFlight,
		pause:       time.Sleep,
		planned:     func(_ arrival, delay time.Duration) { o.delay = max(o.delay, delay) },
		dropped:     func(a arrival) { o.dropped = append(o.dropped, a) },
		worker: func() func(arrival) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.workers++
			return func(a arrival) {
				time.Sleep(took(a))
				o.mu.Lock()
				defer o.mu.Unlock()
				o.handled = append(o.handled, time.Since(start.Add(a.after)))
			}
		},
	}.run(ctx, start, arrivals(steps, 0, 0))
	return o
}

// TestDispatcher_KeepsTime: a service that keeps up needs few workers, and each request takes as
// long as the service does.
func TestDispatcher_KeepsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := []Step{{100, 2 * time.Second}, {200, time.Second}}
		o := dispatched(t.Context(), 100, steps, func(arrival) time.Duration { return 12 * time.Millisecond })
		if len(o.handled) != 400 || len(o.dropped) != 0 || o.delay != 0 || o.workers > 4 {
			t.Errorf("%d served, %d full, late %v, %d workers", len(o.handled), len(o.dropped), o.delay, o.workers)
		}
		if slices.Max(o.handled) != 12*time.Millisecond || slices.Min(o.handled) != 12*time.Millisecond {
			t.Errorf("took %v to %v", slices.Min(o.handled), slices.Max(o.handled))
		}
	})
}

// TestDispatcher_StallShows: the dispatcher does not wait for a service that stalls for a second.
// The requests that were planned during the stall show the rest of it. A closed loop of one worker
// would have one slow request.
func TestDispatcher_StallShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stallEnds := time.Now().Add(2 * time.Second)
		o := dispatched(t.Context(), 1000, []Step{{100, 3 * time.Second}}, func(a arrival) time.Duration {
			if a.after < time.Second {
				return time.Millisecond
			}
			return max(time.Until(stallEnds), time.Millisecond)
		})
		slow := 0
		for _, took := range o.handled {
			if took > time.Millisecond {
				slow++
			}
		}
		if len(o.handled) != 300 || slow != 100 || slices.Max(o.handled) != time.Second {
			t.Errorf("%d served, %d slow, the slowest %v", len(o.handled), slow, slices.Max(o.handled))
		}
	})
}

// TestDispatcher_Drops: with ten requests in flight and a service that takes a second, ten of 100
// requests per second are handled, and the others are dropped.
func TestDispatcher_Drops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(arrival) time.Duration { return time.Second - time.Microsecond }
		o := dispatched(t.Context(), 10, []Step{{100, 3 * time.Second}}, took)
		if len(o.handled) != 30 || len(o.dropped) != 270 || o.workers != 10 ||
			o.dropped[0].after != 100*time.Millisecond || o.delay != 0 {
			t.Errorf("%d served, %d full, %d workers, late %v", len(o.handled), len(o.dropped), o.workers, o.delay)
		}
	})
}

func TestDispatcher_Stops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Millisecond)
		defer cancel()
		took := func(arrival) time.Duration { return 50 * time.Millisecond }
		o := dispatched(ctx, 10, []Step{{100, time.Hour}}, took)
		if len(o.handled) != 10 { // Those in flight end.
			t.Errorf("%d served", len(o.handled))
		}
	})
}

// TestRun_Open: all planned requests are sent, tenants take turns, and a tenant reads its own
// payments only. The real service would respond with 404 to others.
func TestRun_Open(t *testing.T) {
	service := clienttest.New()
	first := journaltest.NewClient(t, nil, service.Serve(t).URL)
	second, err := first.ForTenant("pl_test_second")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), []*client.Client{first, second}, Config{
		Steps: []Step{{100, 200 * time.Millisecond}, {200, 100 * time.Millisecond}}, InFlight: 500, Reads: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Mode != "open" || r.Tenants != 2 || r.Create.Planned != 40 || r.Create.Done != 40 ||
		r.Status.Planned != 120 || r.Status.Done+r.Status.Skipped != 120 || service.Payments() != 40 {
		t.Errorf("%d payments, %+v", service.Payments(), r)
	}
	if len(r.Steps) != 2 || r.Steps[0].Create.Done != 20 || r.Steps[1].Create.Done != 20 ||
		r.Steps[1].Rate != 200 || r.SendDelay.Count != 160 || r.Failure() != "" {
		t.Errorf("steps %+v", r.Steps)
	}
	writes, owners := map[string]int{}, map[string]string{}
	for _, s := range service.Requests() {
		if s.Method == http.MethodPost {
			writes[s.Authorization]++
		} else if before := owners[s.Path]; before != "" && before != s.Authorization {
			t.Errorf("%s is read by two tenants", s.Path)
		} else {
			owners[s.Path] = s.Authorization
		}
	}
	if len(writes) != 2 || writes["Bearer "+journaltest.APIKey] != 20 {
		t.Errorf("writes %v", writes)
	}
	planned := sum(r.Timeline, func(p Point) int64 { return p.Planned })
	done := sum(r.Timeline, func(p Point) int64 { return p.Done })
	if planned != 160 || done != 40+r.Status.Done {
		t.Errorf("timeline: %d planned, %d done", planned, done)
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"100/s create", "200/s status", "at most 500 requests in flight, 2 tenants, 10000 accounts",
		"latencies count from the planned time", "end to end: not measured",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

func sum(line []Point, of func(Point) int64) (n int64) {
	for _, p := range line {
		n += of(p)
	}
	return n
}

// TestRun_Open_TooMany: a 429 is a failure of one request, and does not end the load.
func TestRun_Open_TooMany(t *testing.T) {
	service := clienttest.New()
	tooMany := clienttest.Respond(429, "application/problem+json", `{"code":"rate_limited"}`)
	once := func(cfg *client.Config) { cfg.AttemptsMax = 1 }
	c := journaltest.NewClient(t, once, service.Serve(t, clienttest.Repeat(5, tooMany)...).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{
		Steps: []Step{{1000, time.Second}}, InFlight: 500, Count: 20,
	})
	if err != nil || r.Create.Done != 15 || r.Create.Failed != 5 || r.Create.Responses["429"] != 5 ||
		r.Retries != 0 || r.Failure() != "5 creates failed" {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestRun_Open_Drops: dropped requests are counted, printed, and part of the verdict.
func TestRun_Open_Drops(t *testing.T) {
	service := clienttest.New()
	var taken atomic.Int64
	release := make(chan struct{})
	service.OnCreate = func(int) {
		if taken.Add(1) <= 3 {
			<-release
		}
	}
	c := journaltest.NewClient(t, nil, service.Serve(t).URL)
	time.AfterFunc(200*time.Millisecond, func() { close(release) })
	r, err := Run(t.Context(), []*client.Client{c}, Config{Steps: []Step{{500, 100 * time.Millisecond}}, InFlight: 3})
	if err != nil || r.Create.Planned != 50 || r.Create.Done != 3 || r.Create.Dropped != 47 || service.Payments() != 3 {
		t.Fatalf("%v, %+v", err, r.Create)
	}
	o, err := ParseObjective("create.p50=1h")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = r.Write(&out)
	if err != nil || !strings.Contains(out.String(), "dropped: 47 requests were planned while 3 were in flight") {
		t.Errorf("%v\n%s", err, out.String())
	}
	v := r.Judge([]Objective{o})[0]
	if v.Met || v.Lost != 47 || !strings.HasPrefix(r.Failure(), "47 requests were dropped") {
		t.Errorf("%v; %s", v, r.Failure())
	}
}

func TestRun_Open_RefusalStops(t *testing.T) {
	service := clienttest.New()
	refusal := clienttest.Respond(401, "application/problem+json", `{"code":"unauthorized"}`)
	c := journaltest.NewClient(t, nil, service.Serve(t, clienttest.Repeat(100, refusal)...).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{Steps: []Step{{20, time.Hour}}, InFlight: 5})
	p, ok := errors.AsType[*client.ProblemError](err)
	if !ok || p.Code != "unauthorized" || r.Create.Done != 0 || r.Interrupted {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestRun_Open_Bounds(t *testing.T) {
	_, err := Run(t.Context(), nil, Config{Steps: []Step{{-1, 0}}, Duration: time.Second, Accounts: 1})
	for _, want := range []string{"tenants:", "rate:", "step:", "in flight:", "accounts:", "duration:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestTally_Progress(t *testing.T) {
	line := newTally(1, newTimeline(time.Now(), 0))
	line.create(0, time.Now(), time.Millisecond, false, nil, nil)
	line.dropped(arrival{}, time.Now())
	for want, length := range map[string]time.Duration{
		"[=====               ] 2s: create 1 (0/s), status 0 (0/s), failed 0, dropped 1": 8 * time.Second,
		"[====================] 2s: create 1":                                            time.Second,
		"2s: create 1":                                                                   0,
	} {
		if got := line.progress(2*time.Second, length); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
