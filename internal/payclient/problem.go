package payclient

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// excerptMax bounds how much of a foreign text goes into a message.
const excerptMax = 200

// Problem is an answer that says no, by RFC 9457 with the members of the contract. Something between client and
// service may answer in its own way: then Code is empty and Detail holds the beginning of what it said.
type Problem struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail"`
	Instance  string       `json:"instance"`
	Code      string       `json:"code"`
	RequestID string       `json:"request_id"`
	PaymentID string       `json:"payment_id"` // idempotency_key_reused: the payment that the key has made
	Errors    []FieldFault `json:"errors"`

	retryAfter    time.Duration
	hasRetryAfter bool // Retry-After was there and could be read.
}

// FieldFault is one field that is wrong.
type FieldFault struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

// Error has one line for the problem and one more for each field.
func (p *Problem) Error() string {
	var b strings.Builder
	name := p.Code
	if name == "" {
		name = http.StatusText(p.Status)
	}
	fmt.Fprintf(&b, "%d %s", p.Status, printable(name))
	if detail := firstOf(p.Detail, p.Title); detail != "" {
		b.WriteString(": " + printable(detail))
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

// readProblem never fails: the status alone already says no.
func readProblem(status int, h http.Header, body []byte) *Problem {
	p := &Problem{}
	if err := json.Unmarshal(body, p); err != nil || p.Code == "" {
		p = &Problem{Detail: string(body)}
	}
	p.Status = status // what was answered, not what the body claims
	if p.RequestID == "" {
		p.RequestID = h.Get("X-Request-Id")
	}
	p.retryAfter, p.hasRetryAfter = retryAfter(h.Get("Retry-After"), time.Now())
	return p
}

// retryAfter reads both forms of RFC 9110, section 10.2.3; what it cannot read is no wish at all.
func retryAfter(v string, now time.Time) (wish time.Duration, ok bool) {
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(s)*time.Second, retryAfterMax), true
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(now), 0), retryAfterMax), true
	}
	return 0, false
}

// printable keeps a foreign text from steering the terminal, or filling it.
func printable(s string) string {
	clean := []rune(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }), " "))
	if len(clean) > excerptMax {
		return string(clean[:excerptMax]) + "…"
	}
	return string(clean)
}

func firstOf(values ...string) string {
	for _, v := range values {
		if strings.TrimSpace(v) != "" {
			return v
		}
	}
	return ""
}
