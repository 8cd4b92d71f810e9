package kafka

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestEncoder_Golden: the event is a contract with consumers, so its bytes must not change.
func TestEncoder_Golden(t *testing.T) {
	t.Parallel()
	const id = "7b2d881c-4fb6-89d4-bbfb-09b015e61438"
	p := sample(t, 4711)
	var err error
	p.ID, err = payment.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	value := `{"id":"` + id + `","tenant":"acme","seq":4711,"amount":25687,"currency":"USD",` +
		`"originator":{"id":"567","name":"Yolanda Quist"},` +
		`"beneficiary":{"id":"123","name":"Xavier \"X\" Zörk & <Co>"},` +
		`"sender":{"type":"checking","number":"765543322"},` +
		`"receiver":{"type":"iban","number":"DE89370400440532013000"},` +
		`"reference":"INV-7","created_at":"2026-11-23T12:00:00.123456Z"}`
	headers := []string{
		"ce_specversion: 1.0", "ce_id: " + id, "ce_type: paylatch.payment.created.v1", "ce_source: /paylatch",
		"ce_time: 2026-11-23T12:00:00.123456Z", "ce_subject: payments/" + id, "content-type: application/json",
		"tenant: acme", "seq: 4711",
	}
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	traced := p
	traced.TraceParent = payment.ParseTraceParent(trace)
	bare := p
	bare.Reference = ""
	for _, test := range []struct {
		name    string
		payment payment.Payment
		value   string
		headers []string
	}{
		{"Whole", p, value, headers},
		{"WithTrace", traced, value, append(slices.Clone(headers), "traceparent: "+trace)},
		{"WithoutReference", bare, strings.Replace(value, `"reference":"INV-7",`, "", 1), headers},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := encode(t, test.payment)
			if string(e.Key) != id {
				t.Errorf("got key %q, want %q", e.Key, id)
			}
			if string(e.Value) != test.value {
				t.Errorf("got value\n%s, want\n%s", e.Value, test.value)
			}
			var got []string
			for _, h := range e.Headers {
				got = append(got, h.Key+": "+string(h.Value))
			}
			if !slices.Equal(got, test.headers) {
				t.Errorf("got headers\n%q, want\n%q", got, test.headers)
			}
		})
	}
}

// TestEncoder_SamePaymentSameBytes: a batch that is sent again has the same bytes. So a payment
// always has the same event, in any time zone.
func TestEncoder_SamePaymentSameBytes(t *testing.T) {
	t.Parallel()
	p := sample(t, 1)
	elsewhere := p
	elsewhere.CreatedAt = p.CreatedAt.In(time.FixedZone("east", 5*60*60+30*60))
	for range 100 {
		a, b := encode(t, p), encode(t, elsewhere)
		same := func(a, b Header) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }
		if !bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Value, b.Value) ||
			!slices.EqualFunc(a.Headers, b.Headers, same) {
			t.Fatalf("got two events of one payment, want one:\n%s\n%s", a.Value, b.Value)
		}
	}
}

// largestPayment returns a payment with every field at its bound.
func largestPayment(t testing.TB) payment.Payment {
	t.Helper()
	p := sample(t, 1, largest)
	p.Tenant.Name = strings.Repeat("t", 63)
	if err := payment.CheckTenantName(p.Tenant.Name); err != nil {
		t.Fatal(err)
	}
	p.Seq = math.MaxInt64
	p.TraceParent = payment.ParseTraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	return p
}

// TestEncoder_LargestPaymentFits: the bounds of package payment keep events below EventBytesMax.
// The largest payment fits, and payment.New refuses a larger one.
func TestEncoder_LargestPaymentFits(t *testing.T) {
	t.Parallel()
	e := encode(t, largestPayment(t))
	if e.size() > EventBytesMax {
		t.Errorf("got %d bytes for the largest event, want at most %d", e.size(), EventBytesMax)
	}
	t.Logf("the largest event has %d bytes of %d", e.size(), EventBytesMax)

	key, err := payment.ParseKey("larger")
	if err != nil {
		t.Fatal(err)
	}
	for name, grow := range map[string]func(*payment.Content){
		"OriginatorID":    func(c *payment.Content) { c.Originator.ID += "x" },
		"OriginatorName":  func(c *payment.Content) { c.Originator.Name += "x" },
		"BeneficiaryID":   func(c *payment.Content) { c.Beneficiary.ID += "x" },
		"BeneficiaryName": func(c *payment.Content) { c.Beneficiary.Name += "x" },
		"SenderType":      func(c *payment.Content) { c.Sender.Type += "x" },
		"SenderNumber":    func(c *payment.Content) { c.Sender.Number += "x" },
		"ReceiverType":    func(c *payment.Content) { c.Receiver.Type += "x" },
		"ReceiverNumber":  func(c *payment.Content) { c.Receiver.Number += "x" },
		"Reference":       func(c *payment.Content) { c.Reference = new(*c.Reference + "x") },
		"Amount":          func(c *payment.Content) { c.Amount += "0" },
	} {
		var c payment.Content
		largest(&c)
		grow(&c)
		if _, err := payment.New(payment.Tenant{}, key, c); err == nil {
			t.Errorf("%s: got a larger payment, want an error", name)
		}
	}
}

// TestEncoder_EscapedIsNotLarger: no character that JSON escapes takes more bytes than the widest
// character.
func TestEncoder_EscapedIsNotLarger(t *testing.T) {
	t.Parallel()
	plain := encode(t, sample(t, 1, largest)).size()
	for r := rune(0); r <= 0x2100; r++ {
		s := strings.Repeat(string(r), 140)
		key, err := payment.ParseKey("escaped")
		if err != nil {
			t.Fatal(err)
		}
		var c payment.Content
		largest(&c)
		c.Originator.Name = s
		p, err := payment.New(payment.Tenant{TenantRef: payment.TenantRef{Name: "acme"}}, key, c)
		if err != nil {
			continue // Such a name is refused.
		}
		const seqDigits = 8
		if size := encode(t, p).size(); size > plain+seqDigits {
			t.Errorf("a name of %U: got an event of %d bytes, want at most %d", r, size, plain)
		}
	}
}

// TestEncoder_TooLarge: an event over EventBytesMax violates a rule of package payment, and is an
// error.
func TestEncoder_TooLarge(t *testing.T) {
	t.Parallel()
	p := sample(t, 1)
	p.Reference = strings.Repeat("x", EventBytesMax)
	if e, err := NewEncoder("/paylatch").Encode(p); err == nil || !strings.Contains(err.Error(), p.ID.String()) {
		t.Errorf("got an event of %d bytes and error %v, want an error with the id", e.size(), err)
	}
}

// TestFit: Fit stops before the batch exceeds BatchBytesMax, and returns at least one event.
func TestFit(t *testing.T) {
	t.Parallel()
	of := func(sizes ...int) []Event {
		events := make([]Event, len(sizes))
		for i, size := range sizes {
			events[i].Value = make([]byte, size-events[i].size())
		}
		return events
	}
	const half = BatchBytesMax / 2
	for name, test := range map[string]struct {
		events []Event
		want   int
	}{
		"None":           {nil, 0},
		"One":            {of(100), 1},
		"All":            {of(100, 200, 300), 3},
		"ExactlyFull":    {of(half, half), 2},
		"OneByteOver":    {of(half, half+1), 1},
		"CutInTheMiddle": {of(half, half-100, 100, 1000), 3},
		"OneTooLarge":    {of(BatchBytesMax + 1), 1},
		"TooLargeFirst":  {of(BatchBytesMax+1, 100), 1},
		"TooLargeSecond": {of(100, BatchBytesMax), 1},
	} {
		if got := Fit(test.events); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

// BenchmarkEncode measures the encoding of one event.
func BenchmarkEncode(b *testing.B) {
	p, encoder := sample(b, 4711), NewEncoder("/paylatch")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encoder.Encode(p); err != nil {
			b.Fatal(err)
		}
	}
}
