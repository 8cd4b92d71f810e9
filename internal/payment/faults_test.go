// The faults that these tests were written for were found by reading and fuzzing the first version
// of the package.

package payment_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

func TestPrivate_PointerInsideAnotherValue(t *testing.T) {
	p := full(t)
	for _, verb := range []string{"%s", "%q", "%c", "%U", "%t", "%e"} {
		wantMasked(t, fmt.Sprintf(verb, []*payment.Payment{&p}), secrets...)
		wantMasked(t, fmt.Sprintf(verb, []any{&p.Sender, &p.Originator}), secrets...)
	}
	who := tenant()
	wantMasked(t, fmt.Sprintf("%s", []any{&who}), secrets...)
}

func TestSalt_MaskedAsJSON(t *testing.T) {
	b, err := json.Marshal(tenant())
	wantMasked(t, string(b)+fmt.Sprint(err), secrets...)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("tenant", "tenant", tenant())
	wantMasked(t, log.String(), secrets...)
}

func TestNew_LeadingZeros(t *testing.T) {
	for _, amount := range []string{"007", "000000000000000000001"} {
		wantFaults(t, content(func(c *payment.Content) { c.Amount = amount }), "/amount integer")
	}
}

func TestParseTraceParent_AllZero(t *testing.T) {
	for _, s := range []string{
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
	} {
		if got := payment.ParseTraceParent(s); got != "" {
			t.Errorf("%q was taken", got)
		}
	}
}

func TestNew_IBANOfRecentCountries(t *testing.T) {
	for _, iban := range []string{
		"BI4210000100010000332045181", "DJ2100010000000154000100186", "FK88SC123456789012",
		"LY83002048000020100120361", "MN121234123456789123",
		"NI45BAPR00000013000003558124", "OM810180000001299123456", "RU0304452522540817810538091310419",
		"SD2129010501234001",
		"SO211000001001000100141", "ST68000100010051845310112", "SV62CENR00000000000000700025",
		"YE15CBYE0001018861234567891234",
	} {
		wantFaults(t, content(func(c *payment.Content) { c.Receiver.Number = iban }))
	}
}

func TestNew_IBANWithLetterThatFolds(t *testing.T) {
	// U+017F upper-cases to S. (U+212A, the Kelvin sign, is K already by NFC and is rightly taken.)
	wantFaults(t, content(func(c *payment.Content) {
		c.Receiver.Number = "\u017fE4550000000058398257466"
	}), "/receiver/number iban_country")
}

func TestNew_IBANThatIsNotUTF8(t *testing.T) {
	wantFaults(t, content(func(c *payment.Content) {
		c.Receiver.Number = "DE\xff9370400440532013000"
	}), "/receiver/number characters")
}

func TestNew_OneMistakeIsOneFault(t *testing.T) {
	wantFaults(t, content(func(c *payment.Content) { c.Sender.Type = "a\x00" }), "/sender/type characters")
	wantFaults(t, content(func(c *payment.Content) {
		c.Receiver.Number = "DE89370400440532013000DE89370400440532013000"
	}), "/receiver/number length")
}

func TestAPIKey_HintOfNone(t *testing.T) {
	if hint := (payment.APIKey{}).Hint(); hint != "" {
		t.Errorf("zero key: got hint %q, want none", hint)
	}
}

func TestParseKey_BeginsWithAQuote(t *testing.T) {
	// Its bare form would be read back as another key, or as none.
	for _, written := range []string{`"\"a\""`, `"\"a"`} {
		if k, err := payment.ParseKey(written); err == nil {
			t.Errorf("ParseKey(%s): got %q, want an error", written, k)
		}
	}
}
