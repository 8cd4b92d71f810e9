package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// Attempt is one request of a call, as an observer sees it.
type Attempt struct {
	// Number counts the attempts of the call, from 1.
	Number int
	// Server is the base address that the request was sent to.
	Server string
	// Status is the HTTP status, or 0 if there was no response.
	Status int
	// Err is nil if the attempt succeeded.
	Err error
	// Took is the time from the begin of the attempt to its response or error.
	Took time.Duration
	// Retry reports that another attempt follows, after Pause.
	Retry bool
	Pause time.Duration
}

type observerKey struct{}

// WithObserver returns a context with which every call reports each of its attempts, when it has
// ended. The function is called by the goroutine of the call, before the pause. An observer that
// ctx has already is called before it.
func WithObserver(ctx context.Context, observe func(Attempt)) context.Context {
	outer := observerOf(ctx)
	if outer == nil {
		return context.WithValue(ctx, observerKey{}, observe)
	}
	return context.WithValue(ctx, observerKey{}, func(a Attempt) {
		outer(a)
		observe(a)
	})
}

func observerOf(ctx context.Context) func(Attempt) {
	observe, _ := ctx.Value(observerKey{}).(func(Attempt))
	return observe
}

func statusOf(got response, err error) int {
	if p, ok := errors.AsType[*ProblemError](err); ok {
		return p.Status
	}
	if r, ok := errors.AsType[*ResponseError](err); ok {
		return r.Status
	}
	return got.status
}

// Outcome names the outcome of the attempt in a few words, to be counted: its status, or how it
// failed. There are few different ones.
func (a Attempt) Outcome() string {
	if a.Err == nil {
		return strconv.Itoa(a.Status)
	}
	return outcome(a.Err)
}

func outcome(err error) string {
	if p, ok := errors.AsType[*ProblemError](err); ok {
		if p.Status == http.StatusServiceUnavailable && !p.hasRetryAfter {
			return "503 without Retry-After" // The API has no such response.
		}
		return strconv.Itoa(p.Status)
	}
	if _, ok := errors.AsType[*ResponseError](err); ok {
		return "unexpected response"
	}
	if errors.Is(err, context.Canceled) {
		return "cancelled"
	}
	if dialFailed(err) || handshakeFailed(err) {
		return "not reached"
	}
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() {
		return "time-out"
	}
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, lost) {
			return "connection lost"
		}
	}
	return "network error"
}
