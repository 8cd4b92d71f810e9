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

// preferenceApplied is the value of Preference-Applied for a wait.
func preferenceApplied(wait time.Duration) []string {
	return []string{"wait=" + strconv.Itoa(int(wait/time.Second))}
}

// waitResult is how a wait ended, as the metrics count it.
type waitResult string

const (
	waitChanged waitResult = "changed"
	waitTimeout waitResult = "timeout"
	waitNoPlace waitResult = "no_place" // It did not begin: waitersMax wait, or as many of the tenant's as may.
	waitStopped waitResult = "stopped"  // The server is about to stop.
	waitGone    waitResult = "gone"     // The client went away.
	waitFailed  waitResult = "failed"   // The store failed.
)

// hold returns once payment p is no longer as the client knows it, and at the latest after wait.
// The client knows the version in known, a list of If-None-Match; when that is empty, it knows
// `created`.
//
// It polls with Store.Look. What the payment has become is therefore for the caller to find.
func (s *Server) hold(x *exchange, p payment.Payment, known []string, wait time.Duration) waitResult {
	result := s.poll(x, p, known, wait)
	s.metrics.waited(x.r.Method, result)
	return result
}

func (s *Server) poll(x *exchange, p payment.Payment, known []string, wait time.Duration) waitResult {
	if !x.share.waiting.take(s.limiter.waiting) {
		return waitNoPlace
	}
	defer x.share.waiting.leave()
	select {
	case s.waiters <- struct{}{}:
		defer func() { <-s.waiters }()
	default:
		return waitNoPlace
	}
	ctx, cancel := context.WithTimeout(x.Context(), wait)
	defer cancel()
	step := time.NewTimer(waitStepMin)
	defer step.Stop()
	for d := waitStepMin; unchanged(p, known); d = min(d*3/2, waitStepMax) {
		step.Reset(d)
		select {
		case <-ctx.Done():
			return interrupted(ctx, x)
		case <-s.closing:
			return waitStopped
		case <-step.C:
		}
		var err error
		if p, err = look(ctx, s.store.Look, x.tenant.TenantRef, p.ID); err != nil {
			return interrupted(ctx, x)
		}
	}
	return waitChanged
}

// interrupted names what ended a wait that saw no change; ctx is that of the wait.
func interrupted(ctx context.Context, x *exchange) waitResult {
	switch {
	case x.Context().Err() != nil:
		return waitGone
	case ctx.Err() != nil:
		return waitTimeout
	}
	return waitFailed
}

// unchanged reports whether p is as the client knows it; see Server.hold.
func unchanged(p payment.Payment, known []string) bool {
	if len(known) > 0 {
		return noneMatch(known, etag(p))
	}
	return p.Status == payment.Created
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
