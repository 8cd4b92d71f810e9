package kafka

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestDecode_RoundTrip: Decode returns what Encode was given, from which a lost row is restored.
func TestDecode_RoundTrip(t *testing.T) {
	t.Parallel()
	traced := sample(t, 2)
	traced.TraceParent = payment.ParseTraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	for name, p := range map[string]payment.Payment{
		"Whole": sample(t, 1), "Traced": traced, "Largest": sample(t, 3, largest),
		"WithoutReference": sample(t, 4, func(c *payment.Content) { c.Reference = nil }),
	} {
		got, err := Decode(encode(t, p))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := p
		want.Tenant.ID, want.Partition, want.Status = 0, 0, ""
		got.Partition, got.Status = 0, ""
		if got != want {
			t.Errorf("%s: got a payment that differs in %q, want none", name, got.Differences(want))
		}
	}
}

// TestDecode_Refused: a damaged or foreign event is refused. The error contains no personal data.
func TestDecode_Refused(t *testing.T) {
	t.Parallel()
	header := func(key, value string) func(*Event) {
		return func(e *Event) {
			e.Headers = slices.Clone(e.Headers)
			for i := range e.Headers {
				if e.Headers[i].Key == key {
					e.Headers[i].Value = []byte(value)
				}
			}
		}
	}
	replace := func(from, to string) func(*Event) {
		return func(e *Event) { e.Value = bytes.Replace(e.Value, []byte(from), []byte(to), 1) }
	}
	for name, change := range map[string]func(*Event){
		"Empty":         func(e *Event) { *e = Event{} },
		"OtherVersion":  header("ce_type", "paylatch.payment.created.v2"),
		"OtherCEID":     header("ce_id", "7b2d881c-4fb6-89d4-bbfb-09b015e61438"),
		"OtherKey":      func(e *Event) { e.Key = []byte("7b2d881c-4fb6-89d4-bbfb-09b015e61438") },
		"NoJSON":        func(e *Event) { e.Value = e.Value[:len(e.Value)-1] },
		"UnknownMember": replace(`{"id"`, `{"fee":1,"id"`),
		"WrongType":     replace(`"amount":25687`, `"amount":"25687"`),
		"NoTime":        replace(`"created_at":"2026`, `"created_at":"x2026`),
		"NoID":          replace(`"id":"`, `"id":"x`),
	} {
		e := encode(t, sample(t, 1))
		change(&e)
		switch _, err := Decode(e); {
		case err == nil:
			t.Errorf("%s: got no error, want one", name)
		case strings.Contains(err.Error(), "Quist") || strings.Contains(err.Error(), "765543322"):
			t.Errorf("%s: got error %q, want one without personal data", name, err)
		}
	}
}

// FuzzDecode: an event that Decode accepts is accepted again after Encode, with the same payment.
func FuzzDecode(f *testing.F) {
	e := encode(f, sample(f, 1))
	f.Add(e.Key, e.Value, e.Headers[2].Value)
	f.Add([]byte{}, []byte("{}"), []byte(eventType))
	f.Fuzz(func(t *testing.T, key, value, kind []byte) {
		headers := []Header{{Key: "ce_type", Value: kind}, {Key: "ce_id", Value: key}}
		p, err := Decode(Event{Key: key, Value: value, Headers: headers})
		if err != nil {
			return
		}
		again, err := NewEncoder("/paylatch").Encode(p)
		if err != nil {
			return // It is too large, because of characters that JSON escapes.
		}
		q, err := Decode(again)
		if err != nil || p != q {
			t.Errorf("%q: got another payment after Encode and Decode (error %v)", value, err)
		}
	})
}
