package payment_test

import (
	"bytes"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

func TestTraceParent_RoundTrip(t *testing.T) {
	const header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	parsed := payment.ParseTraceParent(header)
	if parsed != header {
		t.Fatalf("ParseTraceParent: got %q, want %q", parsed, header)
	}
	want := []byte("\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36" +
		"\x00\xf0\x67\xaa\x0b\xa9\x02\xb7\x01")
	if got := parsed.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("got bytes %x, want %x", got, want)
	}
	if got := payment.TraceParentOf(parsed.Bytes()); got != parsed {
		t.Errorf("TraceParentOf = %q, want %q", got, parsed)
	}
}

func TestTraceParent_None(t *testing.T) {
	none := payment.ParseTraceParent("")
	if none != "" || none.Bytes() != nil || payment.TraceParentOf(nil) != "" {
		t.Errorf("no trace context: got %q, %x, %q, want nothing", none, none.Bytes(), payment.TraceParentOf(nil))
	}
	for _, length := range []int{0, 1, 24, 26, 55} {
		if got := payment.TraceParentOf(make([]byte, length)); got != "" {
			t.Errorf("%d bytes: got %q, want nothing", length, got)
		}
	}
}

func TestParseTraceParent_Dropped(t *testing.T) {
	for name, header := range map[string]string{
		"UpperCase":       "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"LaterVersion":    "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"VersionFF":       "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"ShortTraceID":    "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
		"ShortParentID":   "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01",
		"NoFlags":         "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
		"Appended":        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
		"NotHex":          "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
		"SpaceFirst":      " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"NewlineLast":     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
		"OtherSeparators": "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
	} {
		t.Run(name, func(t *testing.T) {
			if got := payment.ParseTraceParent(header); got != "" {
				t.Errorf("%q: got %q, want it ignored", header, got)
			}
		})
	}
}
