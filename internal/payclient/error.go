package payclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// codeNotFound says that there is no such payment.
const codeNotFound = "not_found"

// codeKeyReused is the one refusal that also answers what became of earlier attempts.
const codeKeyReused = "idempotency_key_reused"

// UnknownError says that the service may or may not have taken the payment: an answer was lost, and no later one
// told. Looking up the key tells; so does Create with the same key and content.
type UnknownError struct {
	Key      string
	Attempts int
	Cause    error // of the last attempt
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("outcome unknown after %s: %v\n  look it up: payclient get --idempotency-key=%s",
		attemptsText(e.Attempts), e.Cause, shellWord(e.Key))
}

func (e *UnknownError) Unwrap() error { return e.Cause }

// creationError tells the three ends of a create that did not succeed apart: refused, never arrived, unknown.
func creationError(key string, t trail, err error) error {
	p, refused := errors.AsType[*Problem](err)
	refused = refused && p.Status < http.StatusInternalServerError
	if refused && (!t.arrived || p.Code == codeKeyReused) {
		return err
	}
	// Also a refusal leaves it open when an earlier attempt may have arrived: the API key may have been withdrawn
	// in between, or the rules have changed.
	if t.arrived {
		return &UnknownError{Key: key, Attempts: t.attempts, Cause: err}
	}
	return fmt.Errorf("no server reached in %s, nothing was sent: %w", attemptsText(t.attempts), err)
}

// mayHaveArrived asks whether the service may have acted although this was the outcome. What it does not know for
// sure not to have arrived may have.
func mayHaveArrived(err error) bool {
	if p, ok := errors.AsType[*Problem](err); ok {
		// After a 5xx a payment may be there: 503 covers a commit whose answer was lost (the contract says "nothing
		// was stored or it is found by the retry").
		return p.Status >= http.StatusInternalServerError
	}
	if late, ok := errors.AsType[*timeoutError](err); ok {
		return !late.notSent
	}
	if _, ok := errors.AsType[*notSentError](err); ok {
		return false
	}
	// Dialling and the TLS handshake come before the first byte of a request, with whatever transport.
	return !dialFailed(err) && !handshakeFailed(err)
}

func dialFailed(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// handshakeFailed: a certificate that is not trusted, or a server that does not speak TLS at all.
func handshakeFailed(err error) bool {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, garbled := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || garbled || errors.Is(err, http.ErrSchemeMismatch)
}

// timeoutError says that a server did not answer in time.
type timeoutError struct {
	server  string
	after   time.Duration
	notSent bool // not even a connection was there in time
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("no answer from %s within %v", e.server, e.after)
}
func (e *timeoutError) Timeout() bool { return true }

// notSentError says that there never was a connection to send the request over: it failed, or time was up before.
type notSentError struct{ cause error }

func (e *notSentError) Error() string { return e.cause.Error() }
func (e *notSentError) Unwrap() error { return e.cause }

// strangeAnswerError says that what answered does not keep the contract.
type strangeAnswerError struct {
	status int
	why    string
}

func (e *strangeAnswerError) Error() string {
	return fmt.Sprintf("%d answered, but %s", e.status, e.why)
}

// answerLabel names the kind of a failed attempt in few words, to be counted.
func answerLabel(err error) string {
	if p, ok := errors.AsType[*Problem](err); ok {
		if p.Status == http.StatusServiceUnavailable && !p.hasRetryAfter {
			return "503 without Retry-After" // The contract has no such response.
		}
		return strconv.Itoa(p.Status)
	}
	if _, ok := errors.AsType[*strangeAnswerError](err); ok {
		return "strange answer"
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

func attemptsText(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return strconv.Itoa(n) + " attempts"
}

// shellWord makes the command in a message safe to paste: a key may hold any visible character.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_.:/@", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
