package payment_test

import (
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

var statuses = []payment.Status{payment.Created, payment.Sent, payment.Accepted, payment.Rejected}

func TestStatus_MayBecome(t *testing.T) {
	type move struct{ from, to payment.Status }
	allowed := map[move]bool{
		{payment.Created, payment.Sent}:  true,
		{payment.Sent, payment.Accepted}: true,
		{payment.Sent, payment.Rejected}: true,
	}
	all := append([]payment.Status{"", "unknown", "CREATED"}, statuses...)
	for _, from := range all {
		for _, to := range all {
			if got := from.MayBecome(to); got != allowed[move{from, to}] {
				t.Errorf("%q may become %q: %v", from, to, got)
			}
		}
	}
}

func TestStatus_FinalHasNoMove(t *testing.T) {
	final := map[payment.Status]bool{payment.Accepted: true, payment.Rejected: true}
	for _, s := range statuses {
		if s.Final() != final[s] {
			t.Errorf("%s is final: %v", s, s.Final())
		}
	}
}

func TestParseStatus(t *testing.T) {
	for want, s := range map[payment.Status]string{
		payment.Created: "created", payment.Sent: "sent", payment.Accepted: "accepted", payment.Rejected: "rejected",
	} {
		if got, err := payment.ParseStatus(s); err != nil || got != want {
			t.Errorf("ParseStatus(%q) = %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "Created", "SENT", " sent", "sent\n", "unknown", "pending"} {
		if got, err := payment.ParseStatus(s); err == nil || got != "" {
			t.Errorf("ParseStatus(%q) = %q, want an error", s, got)
		}
	}
}
