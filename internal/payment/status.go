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
	// Created is a payment that is stored and will be emitted.
	Created Status = "created"
	// Sent is a payment that is in the topic, at a known offset.
	Sent Status = "sent"
	// Accepted and Rejected are final. They are reserved for outcomes from downstream.
	Accepted Status = "accepted"
	Rejected Status = "rejected"
)

// ParseStatus parses a status. An unknown one is an error.
func ParseStatus(s string) (Status, error) {
	for _, status := range [...]Status{Created, Sent, Accepted, Rejected} {
		if s == string(status) {
			return status, nil
		}
	}
	// This runs for each row. The copy for the error keeps s itself from escaping to the heap.
	return "", fmt.Errorf("unknown payment status %q", strings.Clone(s))
}

// Final reports whether the status cannot change any more.
func (s Status) Final() bool { return s == Accepted || s == Rejected }
