package api

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// The time between two polls of a request that waits. It is short at first, since most payments are
// sent within milliseconds, and then grows.
const (
	pollIntervalFirst   = 5 * time.Millisecond
	pollIntervalLongest = 500 * time.Millisecond
)

// waitPreference finds the wait of a Prefer header (RFC 7240 section 4.3). There may be other
// preferences, and the value may be quoted.
var waitPreference = regexp.MustCompile(`(?i)(?:^|,)\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:$|[,;])`)

// preferredWait parses Prefer: wait=N, in seconds, and returns at most preferWaitMax. It returns 0
// if there is no wait, or one that is malformed, which must be ignored (RFC 7240 section 2).
func preferredWait(values []string) time.Duration {
	if len(values) == 0 {
		return 0
	}
	m := waitPreference.FindStringSubmatch(strings.Join(values, ","))
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // At most nine digits.
	return min(time.Duration(n)*time.Second, preferWaitMax)
}

// preferenceApplied returns the value of Preference-Applied for a wait.
func preferenceApplied(wait time.Duration) []string {
	return []string{"wait=" + strconv.Itoa(int(wait/time.Second))}
}

// waitResult is how a wait ended. It is a label of a metric.
type waitResult string

const (
	// waitChanged: the payment changed.
	waitChanged waitResult = "changed"
	// waitTimeout: the payment did not change in time.
	waitTimeout waitResult = "timeout"
	// waitNotStarted: too many requests wait already, of this tenant or of all.
	waitNotStarted waitResult = "no_place"
	// waitDisplaced: a tenant with fewer requests that wait needed the place.
	waitDisplaced waitResult = "displaced"
	// waitStopped: the server is about to stop.
	waitStopped waitResult = "stopped"
	// waitGone: the client went away.
	waitGone waitResult = "gone"
	// waitRevoked: the API key was revoked.
	waitRevoked waitResult = "revoked"
	// waitFailed: the store returned an error.
	waitFailed waitResult = "failed"
)

// awaitChange returns once payment p differs from what the client knows, and at the latest after
// wait. The client knows the versions in known, the values of If-None-Match. If known is empty, it
// knows the status `created`.
//
// It also returns soon after the API key of the request was revoked. The caller must recheck the
// key before it reports the payment.
//
// It polls with Store.Look, whose result a failover may undo. So it does not return the payment:
// the caller must find it again.
func (s *Server) awaitChange(x *exchange, p payment.Payment, known []string, wait time.Duration) waitResult {
	result := s.poll(x, p, known, wait)
	s.metrics.waited(x.r.Method, result)
	return result
}

func (s *Server) poll(x *exchange, p payment.Payment, known []string, wait time.Duration) waitResult {
	place := s.places.take(x.tenant.ID, int(s.limiter.waitingMax))
	if place == nil {
		return waitNotStarted
	}
	defer s.places.leave(place)
	ctx, cancel := context.WithTimeout(x.Context(), wait)
	defer cancel()
	timer := time.NewTimer(pollIntervalFirst)
	defer timer.Stop()
	for d := pollIntervalFirst; !x.changed(&p, known); d = min(d*3/2, pollIntervalLongest) {
		timer.Reset(d)
		select {
		case <-ctx.Done():
			return interrupted(ctx, x)
		case <-s.closing:
			return waitStopped
		case <-place.displaced:
			return waitDisplaced
		case <-timer.C:
		}
		if isRevoked(s.recheck(ctx, x)) {
			return waitRevoked
		}
		var err error
		p, err = s.look(ctx, x.tenant.TenantRef, p.ID)
		if err != nil {
			return interrupted(ctx, x)
		}
	}
	return waitChanged
}

// interrupted returns what ended a wait that saw no change. ctx is the context of the wait.
func interrupted(ctx context.Context, x *exchange) waitResult {
	switch {
	case x.Context().Err() != nil:
		return waitGone
	case ctx.Err() != nil:
		return waitTimeout
	}
	return waitFailed
}

// changed reports whether p differs from what the client knows; see Server.awaitChange.
func (x *exchange) changed(p *payment.Payment, known []string) bool {
	if len(known) > 0 {
		return !anyMatch(known, x.etag(p))
	}
	return p.Status != payment.StatusCreated
}

// anyMatch reports whether one of the listed entity tags is the current one. The comparison is weak
// (RFC 9110 section 13.1.2).
func anyMatch(values []string, current string) bool {
	for tag := range strings.SplitSeq(strings.Join(values, ","), ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.TrimPrefix(tag, "W/") == current {
			return true
		}
	}
	return false
}
