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

// asked is what one request met.
type asked struct {
	share      *share // Nil when it was refused.
	code       string // Empty when it was admitted.
	retryAfter int
	header     http.Header
}

func ask(t testing.TB, l *limiter, tenant int32) asked {
	t.Helper()
	a := asked{header: http.Header{}}
	var err error
	if a.share, err = l.admit(a.header, tenant); err != nil {
		r, ok := errors.AsType[*refusal](err)
		if !ok || a.share != nil || problems[r.code].status != http.StatusTooManyRequests {
			t.Fatalf("refused by %v", err)
		}
		a.code, a.retryAfter = r.code, r.retryAfter
	}
	return a
}

// served makes a request that is answered at once, and must be admitted.
func served(t testing.TB, l *limiter, tenant int32) asked {
	t.Helper()
	a := ask(t, l, tenant)
	if a.code != "" {
		t.Fatalf("refused: %s", a.code)
	}
	a.share.inFlight.leave()
	return a
}

func wantFields(t testing.TB, a asked, policy, limit string) {
	t.Helper()
	if got := a.header.Get("RateLimit-Policy"); got != policy {
		t.Errorf("RateLimit-Policy: %s, want %s", got, policy)
	}
	if got := a.header.Get("RateLimit"); got != limit {
		t.Errorf("RateLimit: %s, want %s", got, limit)
	}
}

// TestLimiter_Rate takes all that a tenant may have at once, is refused, comes back when it was told to, and is served. Another tenant is served all the while.
func TestLimiter_Rate(t *testing.T) {
	for name, row := range map[string]struct {
		rate       float64
		burst      int
		window     int
		retryAfter int
	}{
		"Whole": {3, 3, 1, 1}, "Hundred": {100, 100, 1, 1}, "Fraction": {2.5, 2, 1, 1}, "AboveOne": {1.5, 1, 1, 1}, "One": {1, 1, 1, 1},
		"BelowOne": {0.3, 1, 4, 4}, "Fifth": {0.2, 1, 5, 5}, "Least": {TenantRateMin, 1, 100, 100}, "Most": {TenantRateMax, TenantRateMax, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(TenantLimits{Rate: row.rate})
				policy := fmt.Sprintf(`"tenant";q=%d;w=%d`, row.burst, row.window)
				for n := range row.burst {
					wantFields(t, served(t, l, 1), policy, fmt.Sprintf(`"tenant";r=%d;t=%d`, row.burst-n-1, row.window))
				}
				for range 3 { // To ask again costs nothing.
					a := ask(t, l, 1)
					if a.code != "rate_limited" || a.retryAfter != row.retryAfter {
						t.Fatalf("%q after %d s, want rate_limited after %d", a.code, a.retryAfter, row.retryAfter)
					}
					wantFields(t, a, policy, fmt.Sprintf(`"tenant";r=0;t=%d`, row.retryAfter))
				}
				wantFields(t, served(t, l, 2), policy, fmt.Sprintf(`"tenant";r=%d;t=%d`, row.burst-1, row.window))
				time.Sleep(time.Duration(row.retryAfter) * time.Second)
				served(t, l, 1)
			})
		})
	}
}

// TestLimiter_Rate_Greedy: a tenant that asks all the time, refused or not, is served as often as its rate says, and not once more.
func TestLimiter_Rate_Greedy(t *testing.T) {
	for _, rate := range []float64{0.05, 1, 2.5, 7, 40} {
		synctest.Test(t, func(t *testing.T) {
			const seconds = 100
			l := newLimiter(TenantLimits{Rate: rate})
			granted := 0
			for range seconds * 200 {
				if ask(t, l, 1).code == "" {
					granted++
				}
				time.Sleep(time.Second / 200)
			}
			// A grant may come up to one step late, since it is asked for in steps.
			if least, most := int(rate*seconds*(1-rate/200)), l.burst+int(rate*seconds); granted < least || granted > most {
				t.Errorf("%d requests in %d s at a rate of %v, want %d to %d", granted, seconds, rate, least, most)
			}
		})
	}
}

// TestLimiter_InFlight: the tenant's places are taken. One more is refused and costs nothing of the rate; another tenant is served; and a place that is left is free.
func TestLimiter_InFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(TenantLimits{InFlight: 2, Rate: 10})
		first := ask(t, l, 1)
		ask(t, l, 1)
		for range 20 {
			a := ask(t, l, 1)
			if a.code != "too_many_in_flight" || a.retryAfter != 1 {
				t.Fatalf("%q after %d s, want too_many_in_flight after 1", a.code, a.retryAfter)
			}
			wantFields(t, a, `"tenant";q=10;w=1`, `"tenant";r=8;t=1`)
		}
		wantFields(t, served(t, l, 2), `"tenant";q=10;w=1`, `"tenant";r=9;t=1`)
		first.share.inFlight.leave()
		wantFields(t, ask(t, l, 1), `"tenant";q=10;w=1`, `"tenant";r=7;t=1`)
		if a := ask(t, l, 1); a.code != "too_many_in_flight" {
			t.Errorf("%q with both places taken again", a.code)
		}
	})
}

// TestLimiter_RateLeavesPlace: requests that are refused for the rate hold no place.
func TestLimiter_RateLeavesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(TenantLimits{InFlight: 1, Rate: 1})
		served(t, l, 1)
		for range 3 {
			if a := ask(t, l, 1); a.code != "rate_limited" {
				t.Fatalf("%q, want rate_limited", a.code)
			}
		}
		time.Sleep(time.Second)
		served(t, l, 1)
	})
}

// TestLimiter_None: without limits nothing is refused and nothing told.
func TestLimiter_None(t *testing.T) {
	l := newLimiter(TenantLimits{})
	for range 10_000 {
		if a := ask(t, l, 1); a.code != "" || len(a.header) != 0 {
			t.Fatalf("refused by %q, header %v", a.code, a.header)
		}
	}
}

// TestLimiter_Concurrent: forty clients of one tenant, its first requests among them, compete for five places. There are never more than five, in all of them
// together, and all are free in the end. A client that is refused finds all five taken or about to be left: a limit of forty refuses none.
func TestLimiter_Concurrent(t *testing.T) {
	for _, most := range []int32{1, 5, 40} {
		t.Run(strconv.Itoa(int(most)), func(t *testing.T) {
			l := newLimiter(TenantLimits{InFlight: int(most)})
			var here, peak, refused atomic.Int32
			var clients sync.WaitGroup
			for range 40 {
				clients.Go(func() {
					for range 2000 {
						s, err := l.admit(http.Header{}, 1)
						if err != nil {
							refused.Add(1)
							continue
						}
						for n := here.Add(1); ; {
							if p := peak.Load(); n <= p || peak.CompareAndSwap(p, n) {
								break
							}
						}
						here.Add(-1)
						s.inFlight.leave()
					}
				})
			}
			clients.Wait()
			if peak.Load() > most || most == 40 && refused.Load() > 0 {
				t.Errorf("%d at once and %d refused, at a limit of %d", peak.Load(), refused.Load(), most)
			}
			if left := l.share(1).inFlight.taken.Load(); left != 0 {
				t.Errorf("%d places are still taken", left)
			}
		})
	}
}

// TestLimiter_First: four requests are a tenant's first at the same moment, a thousand times. All of them must get the same share, or each would have limits of its own.
func TestLimiter_First(t *testing.T) {
	l := newLimiter(TenantLimits{InFlight: 1})
	for tenant := range int32(1000) {
		var shares [4]*share
		var requests sync.WaitGroup
		begin := make(chan struct{})
		for i := range shares {
			requests.Go(func() {
				<-begin
				shares[i] = l.share(tenant)
			})
		}
		close(begin)
		requests.Wait()
		for _, s := range shares {
			if s != shares[0] {
				t.Fatalf("tenant %d has several shares", tenant)
			}
		}
	}
}

// TestLimiter_Waiting: requests that hold their answer have half of the tenant's places, and half of everybody's at most.
func TestLimiter_Waiting(t *testing.T) {
	for inFlight, want := range map[int]int32{1: 1, 2: 1, 3: 2, 10: 5, TenantInFlightDefault: waitersMax / 2, 1_000_000: waitersMax / 2, 0: waitersMax / 2} {
		if got := newLimiter(TenantLimits{InFlight: inFlight}).waiting; got != want {
			t.Errorf("%d of %d may wait, want %d", got, inFlight, want)
		}
	}
}

// TestLimiter_Bound: more tenants come than are remembered. The one that asks all the while is not freed of its limit by that, and no more are remembered.
func TestLimiter_Bound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(TenantLimits{Rate: 1})
		served(t, l, 0)
		for tenant := range int32(3 * sharesMax) {
			served(t, l, tenant+1)
			if tenant%(sharesMax/2) == 0 && ask(t, l, 0).code != "rate_limited" {
				t.Fatalf("freed of its limit when %d others had come", tenant+1)
			}
		}
		if n := l.shares.Len(); n != sharesMax {
			t.Errorf("%d tenants are remembered, want %d", n, sharesMax)
		}
	})
}

// BenchmarkLimiter_Admit is what the limits cost a request. What it allocates is the value of RateLimit.
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
		"RateOf20000": {TenantLimits{InFlight: TenantInFlightDefault, Rate: TenantRateMax}, 2 * sharesMax}, // Each one pushed out before it comes again.
	} {
		b.Run(name, func(b *testing.B) {
			l := newLimiter(row.limits)
			var next atomic.Int32
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				header := http.Header{}
				for pb.Next() {
					s, err := l.admit(header, next.Add(1)%row.tenants)
					if err == nil {
						s.inFlight.leave()
					}
				}
			})
		})
	}
}
