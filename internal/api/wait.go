package api

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// The steps in which a held answer looks again: fine at first, since most payments are sent within milliseconds, then coarse.
const (
	waitStepMin = 5 * time.Millisecond
	waitStepMax = 500 * time.Millisecond
)

// waitPreference is the wait of a Prefer header (RFC 7240 section 4.3); it may stand among other preferences and be quoted.
var waitPreference = regexp.MustCompile(`(?i)(?:^|,)\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:$|[,;])`)

// preferredWait reads Prefer: wait=N, in seconds, cut to waitMax; 0 when there is none. One that cannot be read is ignored (RFC 7240 section 2).
func preferredWait(values []string) time.Duration {
	if len(values) == 0 {
		return 0
	}
	m := waitPreference.FindStringSubmatch(strings.Join(values, ","))
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // At most nine digits.
	return min(time.Duration(n)*time.Second, waitMax)
}

// await holds the answer, and says so, while the payment is as the client knows it: with If-None-Match that version, without it `created`. It ends early when the
// client goes away or the server stops, and does not begin when waitersMax wait already, or as many of the tenant's as may; the answer is then the payment as it stands.
func (s *Server) await(x *exchange, p payment.Payment, wait time.Duration, find func(context.Context) (payment.Payment, error)) (payment.Payment, error) {
	known := x.r.Header.Values("If-None-Match")
	unchanged := func() bool {
		if len(known) > 0 {
			return noneMatch(known, etag(p))
		}
		return p.Status == payment.Created
	}
	if !x.share.waiting.take(s.limiter.waiting) {
		return p, nil
	}
	defer x.share.waiting.leave()
	select {
	case s.waiters <- struct{}{}:
		defer func() { <-s.waiters }()
	default:
		return p, nil
	}
	x.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	over := time.NewTimer(wait)
	defer over.Stop()
	step := time.NewTimer(waitStepMin)
	defer step.Stop()
	for d := waitStepMin; unchanged(); d = min(d*3/2, waitStepMax) {
		step.Reset(d)
		select {
		case <-x.Context().Done():
			return p, x.Context().Err()
		case <-s.closing:
			return p, nil
		case <-over.C:
			return p, nil
		case <-step.C:
		}
		var err error
		if p, err = x.ask(find); err != nil {
			return p, err
		}
	}
	return p, nil
}

// noneMatch tells whether one of the listed entity tags is the current one (RFC 9110 section 13.1.2; comparison is weak).
func noneMatch(values []string, current string) bool {
	for tag := range strings.SplitSeq(strings.Join(values, ","), ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.TrimPrefix(tag, "W/") == current {
			return true
		}
	}
	return false
}
