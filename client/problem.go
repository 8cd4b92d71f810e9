package client

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Codes of problems that a program may want to handle.
const (
	// CodeNotFound means that there is no such payment.
	CodeNotFound = "not_found"
	// CodeKeyReused means that the key has made a payment with other content: PaymentID names it.
	CodeKeyReused = "idempotency_key_reused"
)

const (
	// excerptCharsMax bounds how much of a foreign text is shown.
	excerptCharsMax = 200
	// retryAfterMax keeps a server, or a proxy in front of it, from delaying its clients for an
	// hour.
	retryAfterMax = 10 * time.Second
)

// ProblemError is a response with a status from 400 on (RFC 9457). Proxies and balancers respond in
// their own way: Code is empty then, and Detail holds the begin of their body.
type ProblemError struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
	// Code identifies the kind of problem.
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
	// PaymentID is set with [CodeKeyReused].
	PaymentID string `json:"payment_id"`
	// Errors lists the members of the payment that are invalid.
	Errors []FieldFault `json:"errors"`

	retryAfter time.Duration
	// hasRetryAfter reports that there was a valid Retry-After.
	hasRetryAfter bool
}

// FieldFault is one invalid member of a request.
type FieldFault struct {
	// Pointer is a JSON Pointer, such as /sender/number.
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

// Error returns one line for the problem and one more for each invalid member.
func (p *ProblemError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", p.Status, printable(cmp.Or(p.Code, http.StatusText(p.Status))))
	if detail := cmp.Or(printable(p.Detail), printable(p.Title)); detail != "" {
		b.WriteString(": " + detail)
	}
	if p.PaymentID != "" {
		b.WriteString(" (payment " + printable(p.PaymentID) + ")")
	}
	if p.RequestID != "" {
		b.WriteString(" [request " + printable(p.RequestID) + "]")
	}
	for _, f := range p.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", printable(f.Pointer), printable(f.Code))
		if f.Detail != "" {
			b.WriteString(": " + printable(f.Detail))
		}
	}
	return b.String()
}

// readProblem never fails: the status alone is a refusal.
func readProblem(status int, h http.Header, body []byte) *ProblemError {
	p := &ProblemError{}
	if err := json.Unmarshal(body, p); err != nil || p.Code == "" {
		p = &ProblemError{Detail: string(body)}
	}
	p.Status = status // That of the response, not that of the body.
	p.RequestID = cmp.Or(p.RequestID, h.Get("X-Request-Id"))
	p.retryAfter, p.hasRetryAfter = retryAfter(h.Get("Retry-After"), time.Now())
	return p
}

// retryAfter reads both forms of RFC 9110, section 10.2.3.
func retryAfter(value string, now time.Time) (wait time.Duration, ok bool) {
	if s, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(s)*time.Second, retryAfterMax), true
	}
	if t, err := http.ParseTime(value); err == nil {
		return min(max(t.Sub(now), 0), retryAfterMax), true
	}
	return 0, false
}

// printable returns a foreign text without control characters, in one line, and cut to a length.
func printable(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) })
	clean := []rune(strings.Join(words, " "))
	if len(clean) > excerptCharsMax {
		return string(clean[:excerptCharsMax]) + "…"
	}
	return string(clean)
}
