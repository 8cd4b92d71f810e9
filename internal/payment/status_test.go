package payment_test

import (
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

func TestStatus_Final(t *testing.T) {
	for status, want := range map[payment.Status]bool{
		payment.Created: false, payment.Sent: false, payment.Accepted: true, payment.Rejected: true,
	} {
		if got := status.Final(); got != want {
			t.Errorf("%s: got final %t, want %t", status, got, want)
		}
	}
}

func TestParseStatus(t *testing.T) {
	for want, s := range map[payment.Status]string{
		payment.Created: "created", payment.Sent: "sent", payment.Accepted: "accepted", payment.Rejected: "rejected",
	} {
		if got, err := payment.ParseStatus(s); err != nil || got != want {
			t.Errorf("ParseStatus(%q): got %q, %v, want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"", "Created", "SENT", " sent", "sent\n", "unknown", "pending"} {
		if got, err := payment.ParseStatus(s); err == nil || got != "" {
			t.Errorf("ParseStatus(%q): got %q, want an error", s, got)
		}
	}
}
