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
)

// dispatchLog is what a dispatcher did, on the clock of a test.
type dispatchLog struct {
	mu      sync.Mutex
	served  []time.Duration // from due to done, in order of being done
	full    []arrival
	late    time.Duration
	workers int
}

// dispatched runs a plan on the bubble's clock; service says how long the nth request takes.
func dispatched(ctx context.Context, places int, steps []Step, service func(arrival) time.Duration) *dispatchLog {
	o := &dispatchLog{}
	start := time.Now()
	dispatcher{
		places: places,
		pause:  time.Sleep,
		due:    func(_ arrival, late time.Duration) { o.late = max(o.late, late) },
		full:   func(a arrival) { o.full = append(o.full, a) },
		worker: func() func(arrival) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.workers++
			return func(a arrival) {
				time.Sleep(service(a))
				o.mu.Lock()
				defer o.mu.Unlock()
				o.served = append(o.served, time.Since(start.Add(a.after)))
			}
		},
	}.run(ctx, start, arrivals(steps, 0, 0))
	return o
}

// A service that keeps up needs few workers, and each request takes as long as the service does.
func TestDispatcher_KeepsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := dispatched(t.Context(), 100, []Step{{100, 2 * time.Second}, {200, time.Second}}, func(arrival) time.Duration { return 12 * time.Millisecond })
		if len(o.served) != 400 || len(o.full) != 0 || o.late != 0 || o.workers > 4 {
			t.Errorf("%d served, %d full, late %v, %d workers", len(o.served), len(o.full), o.late, o.workers)
		}
		if slices.Max(o.served) != 12*time.Millisecond || slices.Min(o.served) != 12*time.Millisecond {
			t.Errorf("took %v to %v", slices.Min(o.served), slices.Max(o.served))
		}
	})
}

// A service that stalls for a second is not waited for: requests go on to come, and those that come during the stall show what is left of it. A closed
// loop of one worker would have had one slow request.
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
		for _, took := range o.served {
			if took > time.Millisecond {
				slow++
			}
		}
		if len(o.served) != 300 || slow != 100 || slices.Max(o.served) != time.Second {
			t.Errorf("%d served, %d slow, the slowest %v", len(o.served), slow, slices.Max(o.served))
		}
	})
}

// Ten places, and a service that takes a second: of 100 requests per second, ten are served in each second, and the others are told.
func TestDispatcher_Full(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := dispatched(t.Context(), 10, []Step{{100, 3 * time.Second}}, func(arrival) time.Duration { return time.Second - time.Microsecond })
		if len(o.served) != 30 || len(o.full) != 270 || o.workers != 10 || o.full[0].after != 100*time.Millisecond || o.late != 0 {
			t.Errorf("%d served, %d full, %d workers, late %v", len(o.served), len(o.full), o.workers, o.late)
		}
	})
}

func TestDispatcher_Stops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Millisecond)
		defer cancel()
		o := dispatched(ctx, 10, []Step{{100, time.Hour}}, func(arrival) time.Duration { return 50 * time.Millisecond })
		if len(o.served) != 10 { // Those in hand are served to their end.
			t.Errorf("%d served", len(o.served))
		}
	})
}

// All that was due was sent, tenants took turns, and reads were of the tenant's own payments: others' would answer 404 in the real service, and here the
// journal of requests tells.
func TestLoad_Open(t *testing.T) {
	service := clienttest.New()
	first := newTestClient(t, nil, service.Serve(t).URL)
	second, err := first.ForTenant("pl_test_second")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), []*client.Client{first, second}, Config{Steps: []Step{{100, 200 * time.Millisecond}, {200, 100 * time.Millisecond}}, InFlight: 500, Reads: 3})
	if err != nil {
		t.Fatal(err)
	}
	if r.Mode != "open" || r.Tenants != 2 || r.Writes.Planned != 40 || r.Writes.Done != 40 || r.Reads.Planned != 120 || r.Reads.Done+r.Reads.NoPayment != 120 || service.Payments() != 40 {
		t.Errorf("%d payments, %+v", service.Payments(), r)
	}
	if len(r.Steps) != 2 || r.Steps[0].Writes.Done != 20 || r.Steps[1].Writes.Done != 20 || r.Steps[1].Rate != 200 || r.Late.Count != 160 || r.Failed() != "" {
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
	if len(writes) != 2 || writes["Bearer "+testKey] != 20 {
		t.Errorf("writes %v", writes)
	}
	if planned, done := sum(r.Timeline, func(p Point) int64 { return p.Planned }), sum(r.Timeline, func(p Point) int64 { return p.Done }); planned != 160 || done != 40+r.Reads.Done {
		t.Errorf("timeline: %d planned, %d done", planned, done)
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"100/s writes", "200/s reads", "at most 500 requests under way, 2 tenants, 10000 accounts", "count from when a request was due", "end to end: not measured"} {
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

// 429 is a failure of one request: the load goes on, and each is counted. What is sent once is not sent again.
func TestLoad_Open_TooMany(t *testing.T) {
	service := clienttest.New()
	server := service.Serve(t, clienttest.Repeat(5, clienttest.Respond(429, "application/problem+json", `{"code":"rate_limited"}`))...)
	r, err := Run(t.Context(), []*client.Client{newTestClient(t, func(cfg *client.Config) { cfg.AttemptsMax = 1 }, server.URL)}, Config{Steps: []Step{{1000, time.Second}}, InFlight: 500, Count: 20})
	if err != nil || r.Writes.Done != 15 || r.Writes.Failed != 5 || r.Writes.Answers["429"] != 5 || r.Retries != 0 || r.Failed() != "5 writes failed" {
		t.Errorf("%v, %+v", err, r)
	}
}

// A service that does not answer fills the places; what is due then is counted, told and part of the verdict.
func TestLoad_Open_NoPlace(t *testing.T) {
	service := clienttest.New()
	var taken atomic.Int64
	release := make(chan struct{})
	service.OnCreate = func(int) {
		if taken.Add(1) <= 3 {
			<-release
		}
	}
	c := newTestClient(t, nil, service.Serve(t).URL)
	time.AfterFunc(200*time.Millisecond, func() { close(release) })
	r, err := Run(t.Context(), []*client.Client{c}, Config{Steps: []Step{{500, 100 * time.Millisecond}}, InFlight: 3})
	if err != nil || r.Writes.Planned != 50 || r.Writes.Done != 3 || r.Writes.NoPlace != 47 || service.Payments() != 3 {
		t.Fatalf("%v, %+v", err, r.Writes)
	}
	o, err := ParseObjective("create.p50=1h")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil || !strings.Contains(out.String(), "47 requests were due while 3 were under way, and were not sent") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if v := r.Judge([]Objective{o})[0]; v.Met || v.Lost != 47 || !strings.HasPrefix(r.Failed(), "47 requests found no place") {
		t.Errorf("%v; %s", v, r.Failed())
	}
}

func TestLoad_Open_RefusalStops(t *testing.T) {
	service := clienttest.New()
	s := service.Serve(t, clienttest.Repeat(100, clienttest.Respond(401, "application/problem+json", `{"code":"unauthorized"}`))...)
	r, err := Run(t.Context(), []*client.Client{newTestClient(t, nil, s.URL)}, Config{Steps: []Step{{20, time.Hour}}, InFlight: 5})
	if p, ok := errors.AsType[*client.ProblemError](err); !ok || p.Code != "unauthorized" || r.Writes.Done != 0 || r.Interrupted {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestLoad_Open_Bounds(t *testing.T) {
	_, err := Run(t.Context(), nil, Config{Steps: []Step{{-1, 0}}, Duration: time.Second, Accounts: 1})
	for _, want := range []string{"tenants:", "rate:", "step:", "in flight:", "accounts:", "duration:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestTally_Progress(t *testing.T) {
	line := newTally(1, newTimeline(time.Now(), 0))
	line.write(0, time.Now(), time.Millisecond, false, nil, nil)
	line.noPlace(arrival{}, time.Now())
	for want, length := range map[string]time.Duration{
		"[=====               ] 2s: 1 payments (0/s), 0 reads (0/s), 0 failed, 1 without a place": 8 * time.Second,
		"[====================] 2s: 1 payments":                                                   time.Second,
		"2s: 1 payments":                                                                          0,
	} {
		if got := line.progress(2*time.Second, length); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
