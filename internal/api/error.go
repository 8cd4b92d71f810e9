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

// refusalError is a problem that this package itself decides on.
type refusalError struct {
	// code is a key of problemTypes.
	code   string
	detail string
	// allow is the value of Allow, for method_not_allowed.
	allow string
	// scope is the one that the key lacks, for insufficient_scope.
	scope payment.Scope
	// retryAfterSeconds is the value of Retry-After, for the two problems of status 429.
	retryAfterSeconds int
}

func (e *refusalError) Error() string { return e.code + ": " + e.detail }

func refuse(code, format string, args ...any) error {
	return &refusalError{code: code, detail: fmt.Sprintf(format, args...)}
}

var (
	errNoRoute = refuse("not_found", "there is nothing at this path")
	errPanic   = errors.New("panic in a handler")
)

// retryAfterSeconds is the value of Retry-After in a 503. It gives a database time to come back,
// and does not keep a user waiting.
const retryAfterSeconds = 1

// Details of problems that say nothing about what failed inside. The log has that.
const (
	unavailableDetail = "the service cannot do this now" + mayRepeat
	internalDetail    = "something went wrong here" + mayRepeat
	mayRepeat         = "; the same request may be made again, with the same idempotency key"
)

// problemOf translates an error into a problem. It is the only place that does. An error that it
// does not know is a 500 with a fixed text.
func problemOf(err error) *problem {
	if refused, ok := errors.AsType[*refusalError](err); ok {
		return newProblem(refused.code, refused.detail)
	}
	if invalid, ok := errors.AsType[*payment.InvalidError](err); ok {
		return invalidProblem(invalid)
	}
	if reused, ok := errors.AsType[*payment.KeyReusedError](err); ok {
		return keyReusedProblem(reused)
	}
	if unready, ok := errors.AsType[*unreadyError](err); ok {
		p := newProblem("unavailable", unreadyDetails[unready.reason])
		p.Reason = unready.reason
		return p
	}
	switch {
	case errors.Is(err, payment.ErrNotFound):
		return newProblem("not_found", "there is no such payment")
	case errors.Is(err, errTestKey):
		return newProblem("unauthorized", "the API key is a test key, and works only in a test installation")
	case errors.Is(err, payment.ErrUnauthorized):
		return newProblem("unauthorized", "the API key is not a live one")
	case errors.Is(err, payment.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, context.Canceled):
		return newProblem("unavailable", unavailableDetail)
	}
	return newProblem("internal", internalDetail)
}

func invalidProblem(invalid *payment.InvalidError) *problem {
	n := strconv.Itoa(len(invalid.Faults))
	p := newProblem("invalid_payment", "members of the payment that are wrong: "+n+"; see errors")
	for _, f := range invalid.Faults {
		p.Errors = append(p.Errors, fault{f.Pointer, f.Code, f.Detail})
	}
	return p
}

func keyReusedProblem(reused *payment.KeyReusedError) *problem {
	id := reused.ID.String()
	p := newProblem("idempotency_key_reused",
		"the idempotency key already stands for payment "+id+", which has other content")
	p.PaymentID = id
	for _, pointer := range reused.Differs {
		p.Errors = append(p.Errors, fault{pointer, "differs", "differs from the payment that is stored"})
	}
	return p
}

// writeError writes err as a problem document, with the header fields of its code.
func (x *exchange) writeError(err error) {
	p := problemOf(err)
	p.Instance, p.RequestID = x.r.URL.EscapedPath(), x.requestID
	x.code = p.Code
	header := x.Header()
	header["Cache-Control"] = noStore
	switch p.Code {
	case "unauthorized":
		header.Set("WWW-Authenticate", `Bearer realm="paylatch"`)
	case "insufficient_scope": // RFC 6750 section 3.1.
		if refused, ok := errors.AsType[*refusalError](err); ok {
			header.Set("WWW-Authenticate",
				`Bearer realm="paylatch", error="insufficient_scope", scope="`+string(refused.scope)+`"`)
		}
	case "unavailable":
		header.Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	case "rate_limited", "too_many_in_flight":
		if refused, ok := errors.AsType[*refusalError](err); ok {
			header.Set("Retry-After", strconv.Itoa(refused.retryAfterSeconds))
		}
	case "method_not_allowed":
		if refused, ok := errors.AsType[*refusalError](err); ok {
			header.Set("Allow", refused.allow)
		}
	}
	x.writeJSON(p.Status, contentTypeProblem, p)
}

// hastenBody bounds what is left of a body that no handler has read. net/http reads it before the
// next request, and a client that sends it slowly would hold the connection for readTimeout. The
// deadline of the next request replaces this one.
func (x *exchange) hastenBody() {
	if x.bodyRead || x.r.ContentLength == 0 {
		return
	}
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(refusedBodyTimeout))
}

// methodNotAllowed names the methods that the path has (RFC 9110 section 15.5.6).
func (s *Server) methodNotAllowed(x *exchange) error {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		if s.matches(x.r, method) {
			allowed = append(allowed, method)
		}
	}
	allow := strings.Join(allowed, ", ")
	return &refusalError{code: "method_not_allowed", detail: "this path supports " + allow, allow: allow}
}

// matches reports whether the router has the request's path for method.
func (s *Server) matches(r *http.Request, method string) bool {
	other := r.Clone(r.Context())
	other.Method = method
	var match mux.RouteMatch
	return s.router.Match(other, &match) && match.MatchErr == nil
}

// statusClientClosedRequest is nginx's non-standard 499. It is used in the log and the metrics
// only: nothing is sent.
const statusClientClosedRequest = 499

// Lines that are logged in each sampleInterval at most. The metrics count all requests.
const (
	// anyoneLinesMax is for each code of a problem, of requests without a valid API key.
	anyoneLinesMax = 1
	// tenantLinesMax is for each tenant.
	tenantLinesMax = 100
)

// report counts the outcome and logs it.
//
// Our faults are logged as errors, the client's as info, and everything else as debug. Requests
// that are refused for a limit, or whose client is gone, come in floods. So do requests to an
// unready replica. These are debug, too. A change of readiness is logged once, by readiness itself.
//
// Other requests can come in floods as well, so their lines are bounded: those of clients without a
// valid API key for all of them together.
func (s *Server) report(x *exchange, route string, took time.Duration, err error) {
	gone := err != nil && x.Context().Err() != nil
	if gone {
		x.status, x.code = statusClientClosedRequest, "client_gone"
	}
	s.metrics.responded(x.r.Method, route, x.status, x.code, took)
	level := slog.LevelDebug
	switch {
	case gone, x.status == http.StatusTooManyRequests, route == readyPath:
	case x.status >= http.StatusInternalServerError:
		level = slog.LevelError
	case x.status >= http.StatusBadRequest:
		level = slog.LevelInfo
	}
	if !s.logger.Enabled(x.Context(), level) {
		return
	}
	more, ok := 0, true
	if level > slog.LevelDebug {
		more, ok = s.sample(x)
	}
	if ok {
		s.logRequest(x, route, took, level, more, err)
	}
}

// sample reports whether the line of a request that failed may be logged, and how many lines were
// held back before it.
func (s *Server) sample(x *exchange) (held int, ok bool) {
	if x.usage != nil {
		return x.usage.lines.pass(time.Now(), tenantLinesMax)
	}
	if sampler := s.refused[x.code]; sampler != nil {
		return sampler.pass(time.Now(), anyoneLinesMax)
	}
	return 0, true
}

// newSamplers returns a sampler for each code of a problem.
func newSamplers() map[string]*sampler {
	samplers := make(map[string]*sampler, len(problemTypes))
	for code := range problemTypes {
		samplers[code] = &sampler{}
	}
	return samplers
}

// logRequest logs a request. more is how many lines like this one were held back before it.
func (s *Server) logRequest(
	x *exchange, route string, took time.Duration, level slog.Level, more int, err error,
) {
	attrs := []slog.Attr{
		slog.String("method", x.r.Method), slog.String("route", route), slog.Int("status", x.status),
		slog.Duration("took", took), slog.String("request_id", x.requestID),
	}
	if x.code != "" {
		attrs = append(attrs, slog.String("code", x.code))
	}
	if x.tenant.Name != "" {
		attrs = append(attrs, slog.String("tenant", x.tenant.Name))
	}
	if more > 0 {
		attrs = append(attrs, slog.Int("more", more))
	}
	// Other errors are not logged: their text may contain what the client sent.
	if level == slog.LevelError {
		attrs = append(attrs, slog.Any("error", err))
	}
	s.logger.LogAttrs(x.Context(), level, "request", attrs...)
}
