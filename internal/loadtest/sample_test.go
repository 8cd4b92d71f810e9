package loadtest

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bojanz/currency"
	banking "github.com/jbub/banking/iban"
	"golang.org/x/text/unicode/norm"

	"github.com/paylatch/paylatch/client"
)

func TestIBAN(t *testing.T) {
	for bban, want := range map[string]string{
		"DE370400440532013000": "DE89370400440532013000",
		"GBNWBK60161331926819": "GB29NWBK60161331926819",
		"NLABNA0417164300":     "NL91ABNA0417164300",
		"AT1904300234573201":   "AT611904300234573201",
	} {
		if got := iban(bban[:2], bban[2:]); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestSample: samples are valid payments, checked by libraries that did not make them.
func TestSample(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	accountType := regexp.MustCompile(`^[a-z][a-z0-9_-]{0,34}$`)
	currencies, types := map[string]int{}, map[string]int{}
	for range 5000 {
		q := Sample(r)
		currencies[q.Currency]++
		if !currency.IsValid(q.Currency) || q.Amount < 1 || q.Amount > 999_999_999_999_999 {
			t.Fatalf("money: %d %s", q.Amount, q.Currency)
		}
		for _, p := range []client.Party{q.Originator, q.Beneficiary} {
			if p.ID == "" || len(p.ID) > 35 || p.Name == "" || utf8.RuneCountInString(p.Name) > 140 ||
				strings.TrimSpace(p.Name) != p.Name || !norm.NFC.IsNormalString(p.Name) {
				t.Fatalf("party %+v", p)
			}
		}
		for _, a := range []client.Account{q.Sender, q.Receiver} {
			types[a.Type]++
			if !accountType.MatchString(a.Type) || a.Number == "" || len(a.Number) > 34 {
				t.Fatalf("account %+v", a)
			}
			if a.Type == "iban" {
				if err := banking.Validate(a.Number); err != nil {
					t.Fatalf("%s: %v", a.Number, err)
				}
			}
		}
		if q.Originator == q.Beneficiary || q.Sender == q.Receiver || len(q.Reference) > 35 {
			t.Fatalf("sample %+v", q)
		}
	}
	for code, digits := range minorDigits {
		if want, ok := currency.GetDigits(code); !ok || int(want) != digits || currencies[code] == 0 {
			t.Errorf("%s: %d digits, ISO 4217 says %d; in %d samples", code, digits, want, currencies[code])
		}
	}
	if len(currencies) != len(minorDigits) || len(types) != 3 {
		t.Errorf("currencies %v, account types %v", currencies, types)
	}
}

// TestHolderOf_IsStable: a number always stands for the same name and account.
func TestHolderOf_IsStable(t *testing.T) {
	for n := range 100 {
		once, again := holderOf(n), holderOf(n)
		if once != again || once.party.ID == holderOf(n+1).party.ID {
			t.Errorf("holder %d: %+v, then %+v", n, once, again)
		}
	}
}

func TestMoneyText(t *testing.T) {
	for want, m := range map[string]struct {
		amount   int64
		currency string
	}{
		"256.87 USD": {25687, "USD"}, "0.05 EUR": {5, "EUR"}, "1500 JPY": {1500, "JPY"},
		"9999999999999.99 GBP": {999_999_999_999_999, "GBP"}, "1234 minor TND": {1234, "TND"},
	} {
		if got := moneyText(m.amount, m.currency); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
