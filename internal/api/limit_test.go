package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// decision is what the limiter decided about one request.
type decision struct {
	// usage is nil if the request was refused.
	usage *tenantUsage
	// code is empty if the request was admitted.
	code              string
	retryAfterSeconds int
	header            http.Header
}

// admit makes one request.
func admit(t *testing.T, l *limiter, tenant int32) decision {
	t.Helper()
	d := decision{header: http.Header{}}
	var err error
	d.usage, err = l.admit(d.header, tenant)
	if err != nil {
		refused, ok := errors.AsType[*refusalError](err)
		if !ok || d.usage != nil || problemTypes[refused.code].status != http.StatusTooManyRequests {
			t.Fatalf("got usage %v and error %v, want a refusal with status 429", d.usage, err)
		}
		d.code, d.retryAfterSeconds = refused.code, refused.retryAfterSeconds
	}
	return d
}

// serveOne makes one request, which must be admitted, and releases it.
func serveOne(t *testing.T, l *limiter, tenant int32) decision {
	t.Helper()
	d := admit(t, l, tenant)
	if d.code != "" {
		t.Fatalf("got %s, want the request to be admitted", d.code)
	}
	d.usage.inFlight.release()
	return d
}

func wantFields(t *testing.T, d decision, policy, limit string) {
	t.Helper()
	if got := d.header.Get("RateLimit-Policy"); got != policy {
		t.Errorf("RateLimit-Policy: got %s, want %s", got, policy)
	}
	if got := d.header.Get("RateLimit"); got != limit {
		t.Errorf("RateLimit: got %s, want %s", got, limit)
	}
}

// TestLimiter_Rate uses up the burst of a tenant, is refused, waits for Retry-After, and is served.
// Another tenant is not affected.
func TestLimiter_Rate(t *testing.T) {
	for name, row := range map[string]struct {
		rate       float64
		burst      int
		window     int
		retryAfter int
	}{
		"Whole":    {3, 3, 1, 1},
		"Hundred":  {100, 100, 1, 1},
		"Fraction": {2.5, 2, 1, 1},
		"AboveOne": {1.5, 1, 1, 1},
		"One":      {1, 1, 1, 1},
		"BelowOne": {0.3, 1, 4, 4},
		"Fifth":    {0.2, 1, 5, 5},
		"Least":    {TenantRateMin, 1, 100, 100},
		"Most":     {TenantRateMax, TenantRateMax, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(TenantLimits{Rate: row.rate})
				policy := fmt.Sprintf(`"tenant";q=%d;w=%d`, row.burst, row.window)
				field := func(r, t int) string { return fmt.Sprintf(`"tenant";r=%d;t=%d`, r, t) }
				for n := range row.burst {
					wantFields(t, serveOne(t, l, 1), policy, field(row.burst-n-1, row.window))
				}
				for range 3 { // A request that is refused costs nothing.
					d := admit(t, l, 1)
					if d.code != "rate_limited" || d.retryAfterSeconds != row.retryAfter {
						t.Fatalf("got %q with Retry-After %d, want rate_limited with %d",
							d.code, d.retryAfterSeconds, row.retryAfter)
					}
					wantFields(t, d, policy, field(0, row.retryAfter))
				}
				wantFields(t, serveOne(t, l, 2), policy, field(row.burst-1, row.window))
				time.Sleep(time.Duration(row.retryAfter) * time.Second)
				serveOne(t, l, 1)
			})
		})
	}
}

// TestLimiter_Rate_Greedy has a tenant that never pauses. It is served as often as its rate allows,
// and not once more.
func TestLimiter_Rate_Greedy(t *testing.T) {
	for _, rate := range []float64{0.05, 1, 2.5, 7, 40} {
		synctest.Test(t, func(t *testing.T) {
			const seconds = 100
			l := newLimiter(TenantLimits{Rate: rate})
			granted := 0
			for range seconds * 200 {
				if admit(t, l, 1).code == "" {
					granted++
				}
				time.Sleep(time.Second / 200)
			}
			// A request may be granted up to one step late.
			least, most := int(rate*seconds*(1-rate/200)), l.burst+int(rate*seconds)
			if granted < least || granted > most {
				t.Errorf("got %d requests in %d s at a rate of %v, want %d to %d", granted, seconds, rate, least, most)
			}
		})
	}
}

// TestLimiter_InFlight has a tenant at its limit of requests in flight. One more is refused and
// does not count against the rate. Another tenant is served. A request that ends admits another.
func TestLimiter_InFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(TenantLimits{InFlight: 2, Rate: 10})
		first := admit(t, l, 1)
		admit(t, l, 1)
		for range 20 {
			d := admit(t, l, 1)
			if d.code != "too_many_in_flight" || d.retryAfterSeconds != 1 {
				t.Fatalf("got %q with Retry-After %d, want too_many_in_flight with 1", d.code, d.retryAfterSeconds)
			}
			wantFields(t, d, `"tenant";q=10;w=1`, `"tenant";r=8;t=1`)
		}
		wantFields(t, serveOne(t, l, 2), `"tenant";q=10;w=1`, `"tenant";r=9;t=1`)
		first.usage.inFlight.release()
		wantFields(t, admit(t, l, 1), `"tenant";q=10;w=1`, `"tenant";r=7;t=1`)
		if d := admit(t, l, 1); d.code != "too_many_in_flight" {
			t.Errorf("two requests are in flight again: got %q, want too_many_in_flight", d.code)
		}
	})
}

// TestLimiter_RateRefusalNotInFlight: a request that is refused for the rate is not in flight.
func TestLimiter_RateRefusalNotInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(TenantLimits{InFlight: 1, Rate: 1})
		serveOne(t, l, 1)
		for range 3 {
			if d := admit(t, l, 1); d.code != "rate_limited" {
				t.Fatalf("got %q, want rate_limited", d.code)
			}
		}
		time.Sleep(time.Second)
		serveOne(t, l, 1)
	})
}

// TestLimiter_None: without limits no request is refused, and no field is set.
func TestLimiter_None(t *testing.T) {
	l := newLimiter(TenantLimits{})
	for range 10_000 {
		if d := admit(t, l, 1); d.code != "" || len(d.header) != 0 {
			t.Fatalf("got %q and header %v, want neither", d.code, d.header)
		}
	}
}

// TestLimiter_Concurrent has forty clients of one tenant, which start at once. There are never more
// requests in flight than the limit, and none in the end. A limit of forty refuses none.
func TestLimiter_Concurrent(t *testing.T) {
	for _, limit := range []int32{1, 5, 40} {
		t.Run(strconv.Itoa(int(limit)), func(t *testing.T) {
			l := newLimiter(TenantLimits{InFlight: int(limit)})
			var inFlight, peak, refused atomic.Int32
			var clients sync.WaitGroup
			for range 40 {
				clients.Go(func() {
					for range 2000 {
						u, err := l.admit(http.Header{}, 1)
						if err != nil {
							refused.Add(1)
							continue
						}
						for n := inFlight.Add(1); ; {
							if p := peak.Load(); n <= p || peak.CompareAndSwap(p, n) {
								break
							}
						}
						inFlight.Add(-1)
						u.inFlight.release()
					}
				})
			}
			clients.Wait()
			if peak.Load() > limit {
				t.Errorf("got %d requests in flight, want at most %d", peak.Load(), limit)
			}
			if limit == 40 && refused.Load() > 0 {
				t.Errorf("got %d requests refused, want 0", refused.Load())
			}
			if got := l.usageOf(1).inFlight.acquired.Load(); got != 0 {
				t.Errorf("got %d requests in flight in the end, want 0", got)
			}
		})
	}
}

// TestLimiter_First has four requests that are a tenant's first at the same moment, a thousand
// times. All must get the same usage, or each would have limits of its own.
func TestLimiter_First(t *testing.T) {
	l := newLimiter(TenantLimits{InFlight: 1})
	for tenant := range int32(1000) {
		var usages [4]*tenantUsage
		var requests sync.WaitGroup
		begin := make(chan struct{})
		for i := range usages {
			requests.Go(func() {
				<-begin
				usages[i] = l.usageOf(tenant)
			})
		}
		close(begin)
		requests.Wait()
		for _, u := range usages {
			if u != usages[0] {
				t.Fatalf("tenant %d: got more than one usage, want one", tenant)
			}
		}
	}
}

// TestLimiter_Waiting: a tenant may wait with half of its requests in flight, and with half of
// waitersMax at most.
func TestLimiter_Waiting(t *testing.T) {
	for inFlight, want := range map[int]int32{
		1: 1, 2: 1, 3: 2, 10: 5,
		TenantInFlightDefault: waitersMax / 2, 1_000_000: waitersMax / 2, 0: waitersMax / 2,
	} {
		if got := newLimiter(TenantLimits{InFlight: inFlight}).waitingMax; got != want {
			t.Errorf("got %d of %d requests that may wait, want %d", got, inFlight, want)
		}
	}
}

// TestLimiter_Bound has more tenants than are kept in memory. A tenant that stays active is not
// evicted, and the bound holds.
func TestLimiter_Bound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(TenantLimits{Rate: 1})
		serveOne(t, l, 0)
		for tenant := range int32(3 * tenantsMax) {
			serveOne(t, l, tenant+1)
			if tenant%(tenantsMax/2) != 0 {
				continue
			}
			if code := admit(t, l, 0).code; code != "rate_limited" {
				t.Fatalf("after %d other tenants: got %q, want rate_limited", tenant+1, code)
			}
		}
		if n := l.usage.Len(); n != tenantsMax {
			t.Errorf("got %d tenants in memory, want %d", n, tenantsMax)
		}
	})
}

// BenchmarkLimiter_Admit measures what the limits cost a request. What it allocates is the value of
// RateLimit. With RateOf20000 each tenant is evicted before its next request.
func BenchmarkLimiter_Admit(b *testing.B) {
	for name, row := range map[string]struct {
		limits  TenantLimits
		tenants int32
	}{
		"None":        {TenantLimits{}, 1},
		"InFlight":    {TenantLimits{InFlight: TenantInFlightDefault}, 1},
		"Rate":        {TenantLimits{InFlight: TenantInFlightDefault, Rate: TenantRateMax}, 1},
		"Refused":     {TenantLimits{InFlight: TenantInFlightDefault, Rate: TenantRateMin}, 1},
		"RateOf1000":  {TenantLimits{InFlight: TenantInFlightDefault, Rate: TenantRateMax}, 1000},
		"RateOf20000": {TenantLimits{InFlight: TenantInFlightDefault, Rate: TenantRateMax}, 2 * tenantsMax},
	} {
		b.Run(name, func(b *testing.B) {
			l := newLimiter(row.limits)
			var next atomic.Int32
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				header := http.Header{}
				for pb.Next() {
					u, err := l.admit(header, next.Add(1)%row.tenants)
					if err == nil {
						u.inFlight.release()
					}
				}
			})
		})
	}
}
