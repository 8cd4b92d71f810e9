package payment

import (
	"encoding/hex"
	"regexp"
)

// TraceParent is a W3C trace context: version, trace id, parent id and flags in the header's own form, or empty.
// Source: https://www.w3.org/TR/trace-context/#traceparent-header
type TraceParent string

// traceParentForm takes version 00 only: what later versions append is not known to be safe to pass on.
var traceParentForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// ParseTraceParent reads the header; anything that is not one is dropped, as the specification asks (section 3.2.2.5).
func ParseTraceParent(s string) TraceParent {
	const noTrace, noParent = "00000000000000000000000000000000", "0000000000000000" // Invalid, says section 3.2.2.
	if s == "" || !traceParentForm.MatchString(s) || s[3:35] == noTrace || s[36:52] == noParent {
		return ""
	}
	return TraceParent(s)
}

// Bytes returns the 25 bytes of trace id, parent id and flags: half the size for storage. Nil when empty.
func (t TraceParent) Bytes() []byte {
	if t == "" {
		return nil
	}
	b, _ := hex.DecodeString(string(t[3:35] + t[36:52] + t[53:])) // The form was checked by ParseTraceParent.
	return b
}

// TraceParentOf is the inverse of Bytes.
func TraceParentOf(b []byte) TraceParent {
	if len(b) != 25 {
		return ""
	}
	return TraceParent("00-" + hex.EncodeToString(b[:16]) + "-" + hex.EncodeToString(b[16:24]) + "-" + hex.EncodeToString(b[24:]))
}
