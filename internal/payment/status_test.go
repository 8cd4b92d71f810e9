package payment_test

import (
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

func TestStatus_IsFinal(t *testing.T) {
	for status, want := range map[payment.Status]bool{
		payment.StatusCreated:  false,
		payment.StatusSent:     false,
		payment.StatusAccepted: true,
		payment.StatusRejected: true,
	} {
		if got := status.IsFinal(); got != want {
			t.Errorf("%s: got final %t, want %t", status, got, want)
		}
	}
}

func TestParseStatus(t *testing.T) {
	for want, s := range map[payment.Status]string{
		payment.StatusCreated:  "created",
		payment.StatusSent:     "sent",
		payment.StatusAccepted: "accepted",
		payment.StatusRejected: "rejected",
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
