package payment

import (
	"encoding/hex"
	"regexp"
)

// TraceParent is a W3C trace context in the form of its header, or empty. It has a version, a trace
// id, a parent id and flags.
//
// Source: https://www.w3.org/TR/trace-context/#traceparent-header
type TraceParent string

// traceParentForm accepts version 00 only. What later versions append may not be safe to forward.
var traceParentForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// ParseTraceParent parses the header. It returns "" if s is invalid, since the specification
// requires to ignore such a header (sections 3.2.2 and 3.2.2.5).
func ParseTraceParent(s string) TraceParent {
	const noTrace, noParent = "00000000000000000000000000000000", "0000000000000000"
	if s == "" || !traceParentForm.MatchString(s) || s[3:35] == noTrace || s[36:52] == noParent {
		return ""
	}
	return TraceParent(s)
}

// Bytes returns the 25 bytes of trace id, parent id and flags, which is half the size. It returns
// nil if t is empty.
func (t TraceParent) Bytes() []byte {
	if t == "" {
		return nil
	}
	b, _ := hex.DecodeString(string(t[3:35] + t[36:52] + t[53:])) // ParseTraceParent checked the form.
	return b
}

// TraceParentOf is the inverse of Bytes.
func TraceParentOf(b []byte) TraceParent {
	if len(b) != 25 {
		return ""
	}
	trace, parent, flags := hex.EncodeToString(b[:16]), hex.EncodeToString(b[16:24]), hex.EncodeToString(b[24:])
	return TraceParent("00-" + trace + "-" + parent + "-" + flags)
}
