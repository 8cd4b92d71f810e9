package payment

import (
	"fmt"
	"strings"
)

// Status is where a payment stands. The set is closed and spelled alike in Go, SQL and JSON.
//
//	created → sent → accepted | rejected
type Status string

// The statuses. Accepted and Rejected are reserved for the outcomes that will be read from downstream.
const (
	Created  Status = "created"  // Stored; will be emitted.
	Sent     Status = "sent"     // In the topic, at a known offset.
	Accepted Status = "accepted" // Downstream took it. Final.
	Rejected Status = "rejected" // Downstream refused it. Final.
)

// ParseStatus reads a status; one that the code does not know is an error, never passed on.
func ParseStatus(s string) (Status, error) {
	for _, status := range [...]Status{Created, Sent, Accepted, Rejected} {
		if s == string(status) {
			return status, nil
		}
	}
	return "", fmt.Errorf("unknown payment status %q", strings.Clone(s)) // A copy, so that s itself need not be on the heap: this is called for each row.
}

// Final tells whether the status is the last one a payment will have.
func (s Status) Final() bool { return s == Accepted || s == Rejected }

// MayBecome tells whether a payment may go from s to next. A status only ever moves forward.
func (s Status) MayBecome(next Status) bool {
	switch s {
	case Created:
		return next == Sent
	case Sent:
		return next == Accepted || next == Rejected
	}
	return false
}
