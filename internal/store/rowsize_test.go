package store_test

import (
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// bytesPerPayment is the mean size of a row, measured as the budget of 200 bytes is.
const bytesPerPayment = `select (sum(pg_column_size(p) + 24) / count(*))::float8 from payments p`

// TestSchema_RowSize: a payment has at most 200 bytes, created and sent, with the longest
// reference. The sizes of other payments are logged. The budget is for the payment, and not for the
// trace context of its request.
func TestSchema_RowSize(t *testing.T) {
	t.Parallel()
	reference := func(s string) func(*payment.Content) { return func(c *payment.Content) { c.Reference = &s } }
	for _, c := range []struct {
		name   string
		change func(*payment.Content)
		trace  string
		budget float64
	}{
		{"Longest", reference(strings.Repeat("R", 35)), "", 200},
		{"Typical", reference("INV-2026-004711"), "", 200},
		{"Bare", func(c *payment.Content) { c.Reference = nil }, "", 200},
		{"TypicalWithTrace", reference("INV-2026-004711"), trace, 0},
		{"LongestWithTrace", reference(strings.Repeat("R", 35)), trace, 0},
		{"LongestOfThreeByteLetters", reference(strings.Repeat("名", 35)), "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 12)
			for _, key := range []string{"a", "b", "c", "d", "e"} {
				f.create(withTrace(f.payment(key, c.change, func(c *payment.Content) { c.Amount = "999999999999999" }),
					c.trace))
			}
			created := query[float64](f, bytesPerPayment)
			f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 9000000000000000000`)
			sent := query[float64](f, bytesPerPayment)
			t.Logf("%s: %.0f bytes created, %.0f sent", c.name, created, sent)
			if c.budget > 0 && max(created, sent) > c.budget {
				t.Errorf("a row takes %.0f bytes created and %.0f sent, the budget is %.0f", created, sent, c.budget)
			}
		})
	}
}
