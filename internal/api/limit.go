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

// The limits of one tenant, unless told otherwise, and the bounds of what may be told.
const (
	// TenantInFlightDefault is half of what the store takes at once (store.CreatesMax): a tenant alone, whatever it does, leaves half of the intake to the others.
	// By Little's law 512 requests of 10 ms each are 51,200 a second, which no replica serves: a tenant meets this limit when it floods, or when the database
	// stalls.
	TenantInFlightDefault = 512
	// TenantRateMin is the slowest rate: a client is never sent away for longer than its inverse, 100 s. TenantRateMax is beyond what a replica serves.
	TenantRateMin = 0.01
	TenantRateMax = 100_000
	// sharesMax bounds the tenants whose use is remembered, at about 250 bytes each; it is what the store remembers of keys, too.
	sharesMax = 10_000
)

// TenantLimits bound what one tenant may take of a replica, so that the others find it as if they were alone. They are each replica's own: replicas share no
// counters, and what an installation promises a tenant is divided by their number.
type TenantLimits struct {
	Rate     float64 // Requests per second, TenantRateMin to TenantRateMax; 0: no limit. As many as one second brings, at least one, may come at once.
	InFlight int     // Requests under way at once; 0: no limit.
}

// limiter decides which authenticated requests are served and which are answered 429 (RFC 6585 section 4). The decision is made before the body is read, asks
// nobody and waits for nothing.
//
// What a tenant uses is remembered for the sharesMax tenants seen last. Tenants are made by operators, and a request is looked at here only once its key was
// found live, so that no client can push another one out: that takes requests of 10,000 other tenants since its last one. A tenant that is pushed out finds its
// bucket full again, which it would have been by itself within a second (100 s at the slowest rate), and its places free, though some of its requests may
// still be under way, for writeTimeout at most. It cannot bring this about, and the store's bounds and waitersMax hold for all tenants together.
type limiter struct {
	limits  TenantLimits
	burst   int
	policy  []string // The value of RateLimit-Policy, the same for every answer; nil without a rate.
	waiting int32    // Places of a tenant's that may hold their answer.
	shares  *lru.Cache[int32, *share]
}

// share is what one tenant uses of a replica.
type share struct {
	bucket   *rate.Limiter // Nil without a rate.
	inFlight places
	waiting  places
}

// places counts what is under way.
type places struct{ taken atomic.Int32 }

// take takes a place unless most are taken already, exactly: one that is refused is never counted, not even for a moment, and so cannot have another refused.
func (p *places) take(most int32) bool {
	for {
		taken := p.taken.Load()
		if taken >= most {
			return false
		}
		if p.taken.CompareAndSwap(taken, taken+1) {
			return true
		}
	}
}

func (p *places) leave() { p.taken.Add(-1) }

func newLimiter(limits TenantLimits) *limiter {
	shares, err := lru.New[int32, *share](sharesMax)
	if err != nil { // Only for a size below one.
		panic(err)
	}
	l := &limiter{limits: limits, shares: shares, waiting: waitersMax / 2}
	if limits.InFlight <= 0 || limits.InFlight > math.MaxInt32 {
		l.limits.InFlight = math.MaxInt32
	}
	// Requests that hold their answer are under way like all others, for their whole wait, but have at most half of the tenant's places: otherwise a client
	// that follows each of its payments would shut out its own creates. One beyond that is answered at once, as when waitersMax wait. It is also at most
	// half of waitersMax, so that one tenant cannot take the waits from the others.
	l.waiting = min(l.waiting, int32((l.limits.InFlight+1)/2)) //nolint:gosec // G115: at most half of waitersMax.
	if limits.Rate > 0 {
		l.burst = max(1, int(limits.Rate))
		window := int(math.Ceil(float64(l.burst) / limits.Rate))
		l.policy = []string{fmt.Sprintf(`"tenant";q=%d;w=%d`, l.burst, window)}
	}
	return l
}

// share returns the tenant's. Two requests that are the tenant's first get the same one.
func (l *limiter) share(tenant int32) *share {
	if s, ok := l.shares.Get(tenant); ok {
		return s
	}
	fresh := &share{}
	if l.limits.Rate > 0 {
		fresh.bucket = rate.NewLimiter(rate.Limit(l.limits.Rate), l.burst)
	}
	if s, ok, _ := l.shares.PeekOrAdd(tenant, fresh); ok {
		return s
	}
	return fresh
}

// errInFlight is one value, since it is answered to floods. A place is free as soon as one request ends; retryAfterSeconds is the least that can be told.
var errInFlight = &refusal{code: "too_many_in_flight", detail: "the tenant has as many requests under way as it may", retryAfter: retryAfterSeconds}

// admit takes a place for a request of the tenant, which the caller leaves when the request is answered, or refuses it. It puts the fields of
// draft-ietf-httpapi-ratelimit-headers-11 into the answer's header in either case, if there is a rate.
//
// A request that finds no place costs nothing of the rate.
func (l *limiter) admit(header http.Header, tenant int32) (*share, error) {
	s := l.share(tenant)
	if !s.inFlight.take(int32(l.limits.InFlight)) { //nolint:gosec // G115: at most MaxInt32, by newLimiter.
		l.tell(header, s, time.Now())
		return nil, errInFlight
	}
	if s.bucket == nil {
		return s, nil
	}
	now := time.Now()
	granted := s.bucket.AllowN(now, 1)
	reset := l.tell(header, s, now)
	if !granted {
		s.inFlight.leave()
		return nil, &refusal{code: "rate_limited", detail: "the tenant has made as many requests as it may for now", retryAfter: reset}
	}
	return s, nil
}

// tell puts the tenant's policy and what is left of it into the header: r requests at once, and all of them again after t seconds, which it returns. To a request
// that is refused for the rate t is also when the next one is granted, as the draft wants it to agree with Retry-After: the bucket holds a second's worth, or
// a single request, so that both lie in the same whole second.
func (l *limiter) tell(header http.Header, s *share, now time.Time) (reset int) {
	if s.bucket == nil {
		return 0
	}
	left := max(0, s.bucket.TokensAt(now))
	reset = max(1, int(math.Ceil((float64(l.burst)-left)/l.limits.Rate)))
	field := make([]byte, 0, 32)
	field = append(field, `"tenant";r=`...)
	field = strconv.AppendInt(field, int64(left), 10)
	field = append(field, `;t=`...)
	field = strconv.AppendInt(field, int64(reset), 10)
	header["Ratelimit-Policy"] = l.policy // As http.Header spells them; written past Set, which would copy the policy each time.
	header["Ratelimit"] = []string{string(field)}
	return reset
}
