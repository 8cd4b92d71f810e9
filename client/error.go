package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// UnknownError reports that the service may or may not have taken a payment: a response was lost,
// and no later one said what became of the request. Create with the same key and content settles
// it; so does FindByKey, unless a request is still on its way.
type UnknownError struct {
	// Key is the idempotency key.
	Key string
	// Attempts counts the requests that were sent or tried.
	Attempts int
	// Err is the error of the last attempt.
	Err error
}

// Error implements error.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("outcome unknown after %s, idempotency key %s: %v", attemptsText(e.Attempts), e.Key, e.Err)
}

// Unwrap returns the error of the last attempt.
func (e *UnknownError) Unwrap() error { return e.Err }

// NotSentError reports that no server was reached: no request of the call was sent.
type NotSentError struct {
	// Attempts counts the requests that were tried. It is 0 if the context had ended already.
	Attempts int
	// Err is the error of the last attempt.
	Err error
}

// Error implements error.
func (e *NotSentError) Error() string {
	return fmt.Sprintf("no server reached in %s, nothing was sent: %v", attemptsText(e.Attempts), e.Err)
}

// Unwrap returns the error of the last attempt.
func (e *NotSentError) Unwrap() error { return e.Err }

// TimeoutError reports that a server did not respond in time.
type TimeoutError struct {
	Server string
	After  time.Duration

	// notSent reports that there was no connection in time.
	notSent bool
}

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("no response from %s within %v", e.Server, e.After)
}

// Timeout implements [net.Error] in part.
func (e *TimeoutError) Timeout() bool { return true }

// ResponseError reports a response that is not one of the API: something else responded, or another
// version of the service.
type ResponseError struct {
	// Status is the HTTP status.
	Status int
	// Reason describes what is wrong with the response.
	Reason string
}

// Error implements error.
func (e *ResponseError) Error() string {
	return fmt.Sprintf("unexpected response with status %d: %s", e.Status, e.Reason)
}

// connectError reports that there was no connection to send the request over.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// createError returns what a failed create means: refused, not sent, or unknown.
func createError(key string, log callLog, err error) error {
	p, refused := errors.AsType[*ProblemError](err)
	refused = refused && p.Status < http.StatusInternalServerError
	switch {
	case refused && (!log.mayHaveArrived || p.Code == CodeKeyReused):
		return err
	case log.mayHaveArrived:
		// A refusal settles nothing if an earlier attempt may have arrived: the API key may have
		// been revoked since, or the rules have changed.
		return &UnknownError{Key: key, Attempts: log.attempts, Err: err}
	}
	return &NotSentError{Attempts: log.attempts, Err: err}
}

// mayHaveArrived reports whether the service may have acted on an attempt that ended with err. It
// returns false only if that is certain.
func mayHaveArrived(err error) bool {
	if p, ok := errors.AsType[*ProblemError](err); ok {
		// After a 5xx there may be a payment: 503 covers a commit whose confirmation was lost.
		return p.Status >= http.StatusInternalServerError
	}
	if t, ok := errors.AsType[*TimeoutError](err); ok {
		return !t.notSent
	}
	if _, ok := errors.AsType[*connectError](err); ok {
		return false
	}
	// With any transport, dialling and the TLS handshake come before the first byte of a request.
	return !dialFailed(err) && !handshakeFailed(err)
}

func dialFailed(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// handshakeFailed reports that one side does not trust the other's certificate, or that the server
// does not speak TLS.
func handshakeFailed(err error) bool {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, garbled := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || garbled || certificateRefused(err) || errors.Is(err, http.ErrSchemeMismatch)
}

// certificateRefused reports that the server did not accept the client's certificate. With TLS 1.3
// the client learns this when it reads, and may have written a request. The server has ended the
// connection in the handshake, before it reads requests.
//
// Package tls has no type for an alert that it received, only its name.
func certificateRefused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate")
}

func attemptsText(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return strconv.Itoa(n) + " attempts"
}
