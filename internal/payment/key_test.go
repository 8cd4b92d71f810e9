package payment_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

func TestParseKey(t *testing.T) {
	for name, c := range map[string]struct{ written, want string }{
		"Bare":                {"order-4711", "order-4711"},
		"Quoted":              {`"order-4711"`, "order-4711"},
		"CaseStays":           {"Order-4711", "Order-4711"},
		"OneByte":             {"k", "k"},
		"OneByteQuoted":       {`"k"`, "k"},
		"255Bytes":            {strings.Repeat("k", 255), strings.Repeat("k", 255)},
		"255BytesQuoted":      {`"` + strings.Repeat("k", 255) + `"`, strings.Repeat("k", 255)},
		"255BytesEscaped":     {`"` + strings.Repeat(`\\`, 255) + `"`, strings.Repeat(`\`, 255)},
		"LowestAndHighest":    {"!~", "!~"},
		"EscapedQuote":        {`"a\"b"`, `a"b`},
		"EscapedBackslash":    {`"a\\b"`, `a\b`},
		"EscapedBackslashEnd": {`"a\\"`, `a\`},
		"BareWithQuoteInside": {`a"b`, `a"b`},
		"BareWithQuoteLast":   {`ab"`, `ab"`},
		"BareWithBackslash":   {`a\b`, `a\b`}, // Escapes exist in the quoted form only.
	} {
		t.Run("Taken/"+name, func(t *testing.T) {
			if got := key(t, c.written).String(); got != c.want {
				t.Errorf("got key %q, want %q", got, c.want)
			}
		})
	}
	for name, written := range map[string]string{
		"Empty":               "",
		"EmptyQuoted":         `""`,
		"256Bytes":            strings.Repeat("k", 256),
		"256BytesQuoted":      `"` + strings.Repeat("k", 256) + `"`,
		"256BytesEscaped":     `"` + strings.Repeat(`\"`, 256) + `"`,
		"Space":               "a b",
		"SpaceFirst":          " a",
		"SpaceLast":           "a ",
		"SpaceQuoted":         `"a b"`,
		"Tab":                 "a\tb",
		"NUL":                 "a\x00",
		"Newline":             "a\n",
		"Delete":              "a\x7f",
		"NonASCII":            "bestellung-ü",
		"NonASCIIQuoted":      `"ü"`,
		"NotUTF8":             "a\xff",
		"OneQuote":            `"`,
		"OpenQuote":           `"abc`,
		"QuoteInside":         `"a"b"`,
		"TextAfterQuote":      `"a"b`,
		"ParameterAfterQuote": `"a";p=1`,
		"EscapedLastQuote":    `"abc\"`,
		"UnknownEscape":       `"a\nb"`,
		"TwoKeys":             `"a", "b"`,
	} {
		t.Run("Refused/"+name, func(t *testing.T) {
			k, err := payment.ParseKey(written)
			if !errors.Is(err, payment.ErrKey) || k != (payment.Key{}) {
				t.Errorf("ParseKey(%q): got %q, %v, want no key and ErrKey", written, k, err)
			}
		})
	}
}

func TestParseKey_BothFormsAreOneKey(t *testing.T) {
	if key(t, "order-4711") != key(t, `"order-4711"`) {
		t.Error("bare and quoted form: got two keys, want one")
	}
}

// TestParseKey_UUIDCase: two spellings of a UUID are two keys, and so two payments. To fold them
// would change the ids of payments that exist: docs/adr/0034-keys-are-compared-by-bytes.md.
func TestParseKey_UUIDCase(t *testing.T) {
	const lower = "01932c07-209f-7c3e-8a4b-5d6e7f809112"
	upper := strings.ToUpper(lower)
	salt := tenant().Salt
	a, b := payment.DeriveID(salt, key(t, lower)), payment.DeriveID(salt, key(t, upper))
	if a == b || key(t, lower) == key(t, upper) {
		t.Errorf("got id %s for %s and for %s, want two ids", a, lower, upper)
	}
}
