package payclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	defaultBackoffFirst = 100 * time.Millisecond
	defaultBackoffMax   = 2 * time.Second
	// retryAfterMax keeps a server, or a proxy in front of it, from parking its clients for an hour.
	retryAfterMax = 10 * time.Second
	// attemptsMax is never reached with the default pauses; it bounds a client configured with tiny ones.
	attemptsMax = 100
)

// trail is what happened on the way to an outcome.
type trail struct {
	attempts int
	arrived  bool     // some attempt may have reached a service without our knowing what it did
	answers  []string // one label per attempt: a status code, or how the network failed
}

func (t *trail) note(status int, err error) {
	t.attempts++
	if err == nil {
		t.answers = append(t.answers, strconv.Itoa(status))
		return
	}
	t.answers = append(t.answers, answerLabel(err))
	t.arrived = t.arrived || mayHaveArrived(err)
}

func (t *trail) add(more trail) {
	t.attempts += more.attempts
	t.arrived = t.arrived || more.arrived
	t.answers = append(t.answers, more.answers...)
}

// call sends the request until it succeeds, is refused, or time is up. Each retry goes to the next server, always
// with the same key and body. The error is that of the last attempt.
func (c *Client) call(ctx context.Context, e exchange) (answer, trail, error) {
	deadline := time.Now().Add(c.retryFor + e.hold)
	var t trail
	if err := ctx.Err(); err != nil {
		return answer{}, t, err
	}
	first := c.next.Add(1) - 1
	var last error
	for {
		server := c.servers[(first+uint64(t.attempts))%uint64(len(c.servers))] //nolint:gosec // G115: a small count.
		a, err := c.attempt(ctx, server, e, deadline)
		t.note(a.status, err)
		if err == nil {
			return a, t, nil
		}
		if !time.Now().Before(deadline) && ctx.Err() == nil {
			// An attempt cut short by the end of it all has less to tell than the one before.
			return answer{}, t, fmt.Errorf("time is up after %v: %w", c.retryFor+e.hold, cmp.Or(last, err))
		}
		if ctx.Err() != nil || e.once || !mayRetry(err) || t.attempts >= attemptsMax {
			return answer{}, t, err
		}
		last = err
		pause := c.pause(t.attempts, err)
		// A pause that leaves no time for another attempt only delays the bad news.
		if time.Until(deadline) <= pause {
			return answer{}, t, err
		}
		if sleepErr := sleep(ctx, pause); sleepErr != nil {
			return answer{}, t, fmt.Errorf("%w, after: %w", sleepErr, err)
		}
	}
}

// mayRetry asks whether another attempt could end better. It never asks whether one is safe: reads always are, and
// a create is by its key.
func mayRetry(err error) bool {
	if p, ok := errors.AsType[*Problem](err); ok {
		switch p.Status {
		case http.StatusServiceUnavailable, http.StatusRequestTimeout: // the contract's own "later", and "your body was lost"
			return true
		case http.StatusTooManyRequests: // refused for now, by a rate; it says when to come back
			return true
		case http.StatusBadGateway, http.StatusGatewayTimeout: // a balancer that has lost its replica
			return true
		default: // a 4xx stays what it is; a 500 is a bug that a repetition meets again
			return false
		}
	}
	if _, ok := errors.AsType[*strangeAnswerError](err); ok {
		return false // not our service, or not our version of it
	}
	if handshakeFailed(err) {
		return false // trust does not come by asking again
	}
	return true // time-outs, refused, reset and ended connections, names not yet known: the network's weather
}

// pause says how long to wait before the next attempt, after so many.
func (c *Client) pause(attempts int, err error) time.Duration {
	wish := time.Duration(0)
	p, answered := errors.AsType[*Problem](err)
	if answered {
		wish = p.retryAfter
	}
	// A server that did not answer says nothing about the next one, which may be asked at once.
	if !answered && attempts < len(c.servers) {
		return 0
	}
	backoff := c.backoffMax
	if doublings := attempts - 1; doublings < 20 {
		backoff = min(c.backoffFirst<<doublings, c.backoffMax)
	}
	// Half of it is random, so that clients that failed together do not come back together.
	half := backoff / 2
	return wish + half + rand.N(backoff-half+1)
}

// sleep waits, and tells when the caller gave up.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
