package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
)

// callLog is what happened during a call.
type callLog struct {
	attempts int
	// mayHaveArrived reports that an attempt may have reached the service, with an unknown result.
	mayHaveArrived bool
}

// call sends a request until it succeeds, is refused, or the time is up. Each retry goes to the
// next server, with the same key and body. The error is that of the last attempt.
func (c *Client) call(ctx context.Context, r request) (response, callLog, error) {
	deadline := time.Now().Add(c.retryFor + r.hold)
	var log callLog
	if err := ctx.Err(); err != nil {
		return response{}, log, err
	}
	first, observe := c.calls.Add(1)-1, observerOf(ctx)
	var previous error
	for {

		server := c.servers[(first+uint64(log.attempts))%uint64(len(c.servers))]
		began := time.Now()
		got, err := c.attempt(ctx, server, r, deadline)
		ended := time.Now()
		log.attempts++
		log.mayHaveArrived = log.mayHaveArrived || err != nil && mayHaveArrived(err)
		pause, retry := c.nextAttempt(ctx, log.attempts, err, deadline.Sub(ended))
		if observe != nil {
			observe(Attempt{
				Number: log.attempts, Server: server, Status: statusOf(got, err), Err: err, Took: ended.Sub(began),
				Retry: retry, Pause: pause,
			})
		}
		switch {
		case err == nil:
			return got, log, nil
		case !retry && ctx.Err() == nil && !ended.Before(deadline):
			// An attempt that was cut short by the deadline has a less useful error than the one
			// before.
			return response{}, log, fmt.Errorf("time is up after %v: %w", c.retryFor+r.hold, cmp.Or(previous, err))
		case !retry:
			return response{}, log, err
		}
		previous = err
		if sleepErr := sleep.For(ctx, pause); sleepErr != nil {
			return response{}, log, fmt.Errorf("%w, after: %w", sleepErr, err)
		}
	}
}

// nextAttempt reports whether another attempt follows, and after which pause.
func (c *Client) nextAttempt(ctx context.Context, attempts int, err error, left time.Duration) (time.Duration, bool) {
	if err == nil || ctx.Err() != nil || left <= 0 || attempts >= c.attemptsMax || !mayRetry(err) {
		return 0, false
	}
	pause := c.pause(attempts, err)
	if left <= pause {
		return 0, false // No time is left for another attempt.
	}
	return pause, true
}

// mayRetry reports whether another attempt could end better. It is always safe: a read changes
// nothing, and a create carries its key.
func mayRetry(err error) bool {
	if p, ok := errors.AsType[*ProblemError](err); ok {
		switch p.Status {
		case http.StatusServiceUnavailable, http.StatusRequestTimeout:
			return true
		case http.StatusTooManyRequests: // The rate was exceeded; Retry-After has the time.
			return true
		case http.StatusBadGateway, http.StatusGatewayTimeout: // A balancer that has lost its replica.
			return true
		default: // A 4xx stays what it is. A 500 is a bug, which a repetition meets again.
			return false
		}
	}
	if _, ok := errors.AsType[*ResponseError](err); ok {
		return false // Not this service, or not this version of the API.
	}
	return !handshakeFailed(err) // A retry does not make a certificate trusted.
}

// pause returns the time until the next attempt, after the given number of attempts.
func (c *Client) pause(attempts int, err error) time.Duration {
	p, responded := errors.AsType[*ProblemError](err)
	if !responded && attempts < len(c.servers) {
		return 0 // The next server may be up.
	}
	backoff := c.backoffMax
	if doublings := attempts - 1; doublings < 20 {
		backoff = min(c.backoffFirst<<doublings, c.backoffMax)
	}
	// Half of it is random: clients that failed together must not come back together.
	half := backoff / 2
	pause := half + rand.N(backoff-half+1)
	if responded {
		pause += p.retryAfter
	}
	return pause
}
