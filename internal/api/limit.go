package api

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Defaults and bounds of the limits of one tenant.
const (
	// TenantInFlightDefault is half of the creates that the store accepts at once
	// (store.CreatesMax). So one tenant alone always leaves half of them to the others.
	//
	// By Little's law 512 requests of 10 ms each are 51,200 per second, more than a replica serves.
	// A tenant reaches this limit only if it floods or if the database stalls.
	TenantInFlightDefault = 512
	// TenantRateMin is the lowest rate, in requests per second. Its inverse, 100 s, is the longest
	// Retry-After.
	TenantRateMin = 0.01
	// TenantRateMax is the highest rate, in requests per second. It is more than a replica serves.
	TenantRateMax = 100_000
	// tenantsMax bounds the tenants whose usage is kept in memory, at about 250 bytes each.
	tenantsMax = 10_000
)

// TenantLimits bounds what one tenant may use of a replica, so that it cannot disturb the others.
// Each replica counts alone. Divide what an installation allows by the number of replicas.
type TenantLimits struct {
	// Rate is in requests per second, from TenantRateMin to TenantRateMax; 0 is no limit. The
	// requests of one second, at least one, may come in a burst.
	Rate float64
	// InFlight is the number of requests in progress at once; 0 is no limit.
	InFlight int
}

// limiter decides which authenticated requests are served, and which get status 429 (RFC 6585
// section 4). It decides before the body is read, without a query, and never waits.
//
// It keeps the usage of the tenantsMax tenants seen last. A tenant is added only once one of its
// keys was found valid, and only operators create tenants. So a client cannot evict another
// tenant: that takes requests of 10,000 other tenants since its last request.
//
// A tenant that is evicted starts with a full bucket, which it would have had anyway within a
// second (100 s at the lowest rate). It also starts with no requests in flight, although some may
// still be in progress, for writeTimeout at most. The bounds for all tenants together still hold:
// those of the store, and waitersMax.
type limiter struct {
	limits TenantLimits
	burst  int
	// policy is the value of RateLimit-Policy. It is nil without a rate.
	policy []string
	// waitingMax bounds the requests of a tenant that wait because of Prefer: wait.
	waitingMax int32
	usage      *lru.Cache[int32, *tenantUsage]
}

// tenantUsage is what one tenant uses of a replica.
type tenantUsage struct {
	// bucket is nil without a rate.
	bucket   *rate.Limiter
	inFlight semaphore
	// lines samples the log.
	lines sampler
}

// semaphore counts requests up to a limit. It never blocks. It is safe for concurrent use.
type semaphore struct{ acquired atomic.Int32 }

// tryAcquire reports whether fewer than limit were acquired, and then acquires one. A refused call
// is never counted, not even for a moment, so it cannot cause the refusal of another one.
func (s *semaphore) tryAcquire(limit int32) bool {
	for {
		acquired := s.acquired.Load()
		if acquired >= limit {
			return false
		}
		if s.acquired.CompareAndSwap(acquired, acquired+1) {
			return true
		}
	}
}

func (s *semaphore) release() { s.acquired.Add(-1) }

// newLimiter returns a limiter with the same limits for each tenant.
//
// A request that waits is in flight for its whole wait, but a tenant may wait with at most half of
// its requests. Otherwise a client that waits for each of its payments would have its own creates
// refused. One request more is served without waiting. A tenant also has at most half of
// waitersMax, so that others need not displace its requests to wait; see waitPlaces.
func newLimiter(limits TenantLimits) *limiter {
	usage, err := lru.New[int32, *tenantUsage](tenantsMax)
	if err != nil {
		panic(err) // Only if the size is not positive.
	}
	l := &limiter{limits: limits, usage: usage}
	if limits.InFlight <= 0 || limits.InFlight > math.MaxInt32 {
		l.limits.InFlight = math.MaxInt32
	}
	l.waitingMax = int32(min(waitersMax/2, (l.limits.InFlight+1)/2))
	if limits.Rate > 0 {
		l.burst = max(1, int(limits.Rate))
		window := int(math.Ceil(float64(l.burst) / limits.Rate))
		l.policy = []string{fmt.Sprintf(`"tenant";q=%d;w=%d`, l.burst, window)}
	}
	return l
}

// usageOf returns the usage of a tenant. Concurrent first requests of a tenant get the same one.
func (l *limiter) usageOf(tenant int32) *tenantUsage {
	if u, ok := l.usage.Get(tenant); ok {
		return u
	}
	fresh := &tenantUsage{}
	if l.limits.Rate > 0 {
		fresh.bucket = rate.NewLimiter(rate.Limit(l.limits.Rate), l.burst)
	}
	if u, ok, _ := l.usage.PeekOrAdd(tenant, fresh); ok {
		return u
	}
	return fresh
}

// errInFlight is allocated once, because floods are refused with it. One request that ends is
// enough to be admitted, so it has the shortest possible Retry-After.
var errInFlight = &refusalError{
	code: "too_many_in_flight", detail: "the tenant has as many requests under way as it may", retryAfterSeconds: 1,
}

// admit counts a request of the tenant as in flight, or refuses it. The caller releases inFlight of
// the usage when the response is written.
//
// If there is a rate, admit adds the fields of draft-ietf-httpapi-ratelimit-headers-11 to the
// response in both cases. A request that is refused for InFlight does not count against the rate.
func (l *limiter) admit(header http.Header, tenant int32) (*tenantUsage, error) {
	u := l.usageOf(tenant)
	if !u.inFlight.tryAcquire(int32(l.limits.InFlight)) {
		l.setHeader(header, u, time.Now())
		return nil, errInFlight
	}
	if u.bucket == nil {
		return u, nil
	}
	now := time.Now()
	granted := u.bucket.AllowN(now, 1)
	reset := l.setHeader(header, u, now)
	if !granted {
		u.inFlight.release()
		return nil, &refusalError{
			code: "rate_limited", detail: "the tenant has made as many requests as it may for now",
			retryAfterSeconds: reset,
		}
	}
	return u, nil
}

// setHeader sets RateLimit-Policy and RateLimit: r requests may be made at once, and the whole
// burst again after t seconds. It returns t.
//
// For a request that is refused for the rate, t equals Retry-After, as the draft requires. Both
// fall into the same whole second: the bucket holds one second of requests, or a single request.
//
// The names are written as http.Header stores them, without Set, which would allocate for each
// response.
func (l *limiter) setHeader(header http.Header, u *tenantUsage, now time.Time) (resetSeconds int) {
	if u.bucket == nil {
		return 0
	}
	left := max(0, u.bucket.TokensAt(now))
	resetSeconds = max(1, int(math.Ceil((float64(l.burst)-left)/l.limits.Rate)))
	field := make([]byte, 0, 32)
	field = append(field, `"tenant";r=`...)
	field = strconv.AppendInt(field, int64(left), 10)
	field = append(field, `;t=`...)
	field = strconv.AppendInt(field, int64(resetSeconds), 10)
	header["Ratelimit-Policy"] = l.policy
	header["Ratelimit"] = []string{string(field)}
	return resetSeconds
}
