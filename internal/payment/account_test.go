package payment_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// accountField is an account in the content of a payment.
type accountField struct {
	pointer string
	content func(kind, number string) payment.Content
	get     func(payment.Payment) payment.Account
}

// forBothAccounts runs a test for the sender and for the receiver account.
func forBothAccounts(t *testing.T, run func(t *testing.T, a accountField)) {
	t.Helper()
	t.Run("Sender", func(t *testing.T) {
		run(t, accountField{
			pointer: "/sender",
			content: func(kind, number string) payment.Content {
				return content(func(c *payment.Content) {
					c.Sender = payment.AccountContent{Type: kind, Number: number}
				})
			},
			get: func(p payment.Payment) payment.Account { return p.Sender },
		})
	})
	t.Run("Receiver", func(t *testing.T) {
		run(t, accountField{
			pointer: "/receiver",
			content: func(kind, number string) payment.Content {
				return content(func(c *payment.Content) {
					c.Receiver = payment.AccountContent{Type: kind, Number: number}
				})
			},
			get: func(p payment.Payment) payment.Account { return p.Receiver },
		})
	})
}

func TestNew_AccountType(t *testing.T) {
	forBothAccounts(t, func(t *testing.T, a accountField) {
		t.Helper()
		for kind, want := range map[string]string{
			"checking": "checking", "bban": "bban", "a": "a", "a1-b_2": "a1-b_2", " savings\n": "savings",
			strings.Repeat("x", 35): strings.Repeat("x", 35),
		} {
			if got := a.get(create(t, a.content(kind, "42"))).Type; got != want {
				t.Errorf("type %q: got %q, want %q", kind, got, want)
			}
		}
		for kind, code := range map[string]string{
			"": "required", " \t": "required", strings.Repeat("x", 36): "length", "\xff": "characters",
			"Checking": "format", "IBAN": "format",
			"1st": "format", "-a": "format", "_a": "format", "a b": "format", "a.b": "format", "sparbüchse": "format",
			"ſavings": "format",
		} {
			wantFaults(t, a.content(kind, "42"), a.pointer+"/type "+code)
		}
		for _, kind := range []string{"a\x00b", "a\nb", "a\u2028b"} {
			wantFaults(t, a.content(kind, "42"), a.pointer+"/type characters")
		}
	})
}

// registered are examples from the IBAN registry, one for each kind of structure.
var registered = []string{
	"AE070331234567890123456", "AT611904300234573201", "BE68539007547034", "BR1800360305000010009795493C1",
	"CH9300762011623852957",
	"DE89370400440532013000", "ES9121000418450200051332", "FR1420041010050500013M02606", "GB29NWBK60161331926819",
	"IT60X0542811101000000123456", "LC55HEMM000100010012001200023015", "MT84MALT011000012345MTLCAST001S",
	"NL91ABNA0417164300",
	"NO9386011117947", "PL61109010140000071219812874", "SA0380000000608010167519", "SE4550000000058398257466",
	"TR330006100519786457841326",
}

func TestNew_IBAN(t *testing.T) {
	forBothAccounts(t, func(t *testing.T, a accountField) {
		t.Helper()
		for _, iban := range registered {
			for form, written := range map[string]string{
				"Electronic": iban,
				"LowerCase":  strings.ToLower(iban),
				"Printed":    printed(iban),
				"Surrounded": "\t" + printed(strings.ToLower(iban)) + "\u00a0\n",
			} {
				t.Run(iban[:2]+"/"+form, func(t *testing.T) {
					want := payment.Account{Type: payment.IBAN, Number: payment.Private(iban)}
					if got := a.get(create(t, a.content("iban", written))); got != want {
						t.Errorf("%q: got %q, want %q", written, got.Number.Reveal(), iban)
					}
				})
			}
		}
		for name, c := range map[string]struct{ number, code string }{
			"Empty":                  {"", "required"},
			"Blank":                  {" \t ", "required"},
			"WrongCheckDigits":       {"DE88370400440532013000", "iban_checksum"},
			"CheckDigitsPlus97":      {"DE00370400440532013000", "iban_checksum"},
			"TwoDigitsSwapped":       {"DE89370400440532010300", "iban_checksum"},
			"OneDigitWrong":          {"DE89370400440532013001", "iban_checksum"},
			"OneShort":               {"DE8937040044053201300", "iban_length"},
			"OneLong":                {"DE893704004405320130000", "iban_length"},
			"OnlyTheCountry":         {"DE", "iban_length"},
			"OneCharacter":           {"D", "iban_country"},
			"UnknownCountry":         {"ZZ89370400440532013000", "iban_country"},
			"NoCountry":              {"1289370400440532013000", "iban_country"},
			"LetterForADigit":        {"DE89370400440532O13000", "iban_checksum"},
			"Hyphens":                {"DE89-3704-0044-0532-01", "iban_format"},
			"NotLatin":               {"ДЕ89370400440532013000", "iban_country"},
			"ControlCharacterInside": {"DE8937040044053201300\x00", "characters"},
		} {
			t.Run("Refused/"+name, func(t *testing.T) {
				got := faultsOf(t, a.content("iban", c.number))
				if !slices.Contains(got, a.pointer+"/number "+c.code) {
					t.Errorf("%q: got faults %q, want %s", c.number, got, c.code)
				}
				for _, fault := range got {
					if !strings.HasPrefix(fault, a.pointer+"/number ") {
						t.Errorf("%q: got fault %q, want faults of the number only", c.number, fault)
					}
				}
			})
		}
		t.Run("OtherSchemesAreNotChecked", func(t *testing.T) {
			const number = "de88 3704"
			if got := a.get(create(t, a.content("checking", number))).Number.Reveal(); got != number {
				t.Errorf("got number %q, want it unchanged", got)
			}
		})
	})
}

// printed returns an IBAN in groups of four, as on paper.
func printed(iban string) string {
	return strings.Join(slices.Collect(func(yield func(string) bool) {
		for group := range slices.Chunk([]byte(iban), 4) {
			if !yield(string(group)) {
				return
			}
		}
	}), " ")
}
