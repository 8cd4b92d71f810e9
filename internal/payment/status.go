package payment

import (
	"fmt"
	"strings"
)

// Status is the status of a payment. It only moves forward:
//
//	created → sent → accepted | rejected
//
// The values are the same in Go, SQL and JSON.
type Status string

const (
	// StatusCreated is a payment that is stored and will be emitted.
	StatusCreated Status = "created"
	// StatusSent is a payment that is in the topic, at a known offset.
	StatusSent Status = "sent"
	// StatusAccepted is final. It is reserved for an outcome from downstream.
	StatusAccepted Status = "accepted"
	// StatusRejected is final. It is reserved for an outcome from downstream.
	StatusRejected Status = "rejected"
)

// ParseStatus parses a status. An unknown one is an error.
func ParseStatus(s string) (Status, error) {
	for _, status := range [...]Status{StatusCreated, StatusSent, StatusAccepted, StatusRejected} {
		if s == string(status) {
			return status, nil
		}
	}
	// This runs for each row. The copy for the error keeps s itself from escaping to the heap.
	return "", fmt.Errorf("unknown payment status %q", strings.Clone(s))
}

// IsFinal reports whether the status cannot change any more.
func (s Status) IsFinal() bool { return s == StatusAccepted || s == StatusRejected }
