package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/paylatch/paylatch/internal/payment"
)

// refusal is an answer that this room itself decides on.
type refusal struct {
	code       string // A key of problems.
	detail     string
	allow      string // For method_not_allowed.
	retryAfter int    // Seconds; for the two of status 429.
}

func (e *refusal) Error() string { return e.code + ": " + e.detail }

func refuse(code, format string, args ...any) error {
	return &refusal{code: code, detail: fmt.Sprintf(format, args...)}
}

var (
	errNoRoute = refuse("not_found", "there is nothing at this path")
	errPanic   = errors.New("panic in a handler")
)

// retryAfterSeconds is when a client should come again after a 503: long enough to let a database come back, short enough for its user.
const retryAfterSeconds = 1

// problemOf is the one table from errors to problems. What it does not know is a 500 with a fixed text; the inside goes to the log.
func problemOf(err error) *problem {
	if r, ok := errors.AsType[*refusal](err); ok {
		return newProblem(r.code, r.detail)
	}
	if invalid, ok := errors.AsType[*payment.Invalid](err); ok {
		p := newProblem("invalid_payment", "members of the payment that are wrong: "+strconv.Itoa(len(invalid.Faults))+"; see errors")
		for _, f := range invalid.Faults {
			p.Errors = append(p.Errors, fault{f.Pointer, f.Code, f.Detail})
		}
		return p
	}
	if reused, ok := errors.AsType[*payment.KeyReused](err); ok {
		p := newProblem("idempotency_key_reused", "the idempotency key already stands for payment "+reused.ID.String()+", which has other content")
		p.PaymentID = reused.ID.String()
		for _, pointer := range reused.Differs {
			p.Errors = append(p.Errors, fault{pointer, "differs", "is another one in the payment that is stored"})
		}
		return p
	}
	if unready, ok := errors.AsType[*unreadyError](err); ok {
		p := newProblem("unavailable", unreadyDetails[unready.reason])
		p.Reason = unready.reason
		return p
	}
	switch {
	case errors.Is(err, payment.ErrNotFound):
		return newProblem("not_found", "there is no such payment")
	case errors.Is(err, payment.ErrUnauthorized):
		return newProblem("unauthorized", "the API key is not a live one")
	case errors.Is(err, payment.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return newProblem("unavailable", "the service cannot do this now; the same request may be made again, with the same idempotency key")
	}
	return newProblem("internal", "something went wrong here; the same request may be made again, with the same idempotency key")
}

// answerError answers err as a problem document.
func (x *exchange) answerError(err error) {
	p := problemOf(err)
	p.Instance, p.RequestID = x.r.URL.EscapedPath(), x.requestID
	x.code = p.Code
	header := x.Header()
	switch p.Code {
	case "unauthorized":
		header.Set("WWW-Authenticate", `Bearer realm="paylatch"`)
	case "unavailable":
		header.Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	case "rate_limited", "too_many_in_flight":
		if r, ok := errors.AsType[*refusal](err); ok {
			header.Set("Retry-After", strconv.Itoa(r.retryAfter))
		}
	case "method_not_allowed":
		if r, ok := errors.AsType[*refusal](err); ok {
			header.Set("Allow", r.allow)
		}
	}
	x.answerJSON(p.Status, contentTypeProblem, p)
}

// methodNotAllowed names the methods that the path does have (RFC 9110 section 15.5.6).
func (s *Server) methodNotAllowed(x *exchange) error {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		if s.matches(x.r, method) {
			allowed = append(allowed, method)
		}
	}
	allow := strings.Join(allowed, ", ")
	return &refusal{code: "method_not_allowed", detail: "this path answers " + allow, allow: allow}
}

// matches tells whether the router has the request's path for method.
func (s *Server) matches(r *http.Request, method string) bool {
	other := r.Clone(r.Context())
	other.Method = method
	var match mux.RouteMatch
	return s.router.Match(other, &match) && match.MatchErr == nil
}

// statusClientGone is how metrics and log tell a request whose client went away: a number of nobody's, as nginx writes it.
const statusClientGone = 499

// report counts the outcome, and logs it when somebody should look: ours at error, the client's at info, the rest at debug, since metrics count it.
func (s *Server) report(x *exchange, route string, took time.Duration, err error) {
	gone := err != nil && x.Context().Err() != nil // The client went away before the answer, which is no fault of ours.
	if gone {
		x.status, x.code = statusClientGone, "client_gone"
	}
	s.metrics.answered(x.r.Method, route, x.status, x.code, took)
	level := slog.LevelDebug
	switch {
	case gone, x.status == http.StatusTooManyRequests: // These come in floods, and a line for each would be a part of the flood.
	case route == readyPath: // So do these. What made the replica unready is logged once, by readiness.
	case x.status >= http.StatusInternalServerError:
		level = slog.LevelError
	case x.status >= http.StatusBadRequest:
		level = slog.LevelInfo
	}
	if !s.logger.Enabled(x.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", x.r.Method), slog.String("route", route), slog.Int("status", x.status), slog.String("took", took.String()),
		slog.String("request_id", x.requestID),
	}
	if x.code != "" {
		attrs = append(attrs, slog.String("code", x.code))
	}
	if x.tenant.Name != "" {
		attrs = append(attrs, slog.String("tenant", x.tenant.Name))
	}
	if level == slog.LevelError { // A refusal's text may hold what the client sent.
		attrs = append(attrs, slog.Any("error", err))
	}
	s.logger.LogAttrs(x.Context(), level, "request", attrs...)
}
