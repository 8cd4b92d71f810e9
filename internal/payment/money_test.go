package payment_test

import (
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

func TestNew_Amount(t *testing.T) {
	for literal, code := range map[string]string{
		"":                     "required",
		"0":                    "range",
		"-0":                   "range",
		"-1":                   "range",
		"1000000000000000":     "range", // The maximum and one.
		"9223372036854775807":  "range",
		"9223372036854775808":  "range",
		"18446744073709551617": "range", // 2^64 + 1: 20 digits that would wrap to 1.
		"99999999999999999999": "range",
		"-9223372036854775809": "range", // Below the smallest int64.
		"12.50":                "integer",
		"12.0":                 "integer",
		"1e3":                  "integer",
		"1E2":                  "integer",
		"1e-2":                 "integer",
		"+1":                   "integer",
		" 1":                   "integer",
		"1 ":                   "integer",
		"1-":                   "integer",
		"1_000":                "integer",
		"1,000":                "integer",
		"0x10":                 "integer",
		"١٢":                   "integer",
		"NaN":                  "integer",
		"null":                 "integer",
	} {
		t.Run("Refused/"+literal, func(t *testing.T) {
			wantFaults(t, content(func(c *payment.Content) { c.Amount = literal }), "/amount "+code)
		})
	}
	for literal, minor := range map[string]int64{"1": 1, "25687": 25687, "999999999999999": 999_999_999_999_999} {
		t.Run("Taken/"+literal, func(t *testing.T) {
			if p := create(t, content(func(c *payment.Content) { c.Amount = literal })); p.Money.Minor != minor {
				t.Errorf("got amount %d, want %d", p.Money.Minor, minor)
			}
		})
	}
}

func TestNew_Currency(t *testing.T) {
	for code, fault := range map[string]string{
		"": "required", "usd": "unknown", "Usd": "unknown", " USD": "unknown", "US": "unknown", "USDX": "unknown",
		"ZZZ": "unknown",
		"840": "unknown", "DEM": "unknown", " ": "unknown", "US\x00": "unknown", "\xff\xff\xff": "unknown",
		"ＵＳＤ": "unknown",
	} {
		t.Run("Refused/"+code, func(t *testing.T) {
			wantFaults(t, content(func(c *payment.Content) { c.Currency = code }), "/currency "+fault)
		})
	}
	for _, code := range []string{"USD", "EUR", "JPY", "KWD", "CHF", "CLF"} {
		t.Run("Taken/"+code, func(t *testing.T) {
			if p := create(t, content(func(c *payment.Content) { c.Currency = code })); p.Money.Currency != code {
				t.Errorf("got currency %q, want %q", p.Money.Currency, code)
			}
		})
	}
}

func TestMoney_String(t *testing.T) {
	for want, m := range map[string]payment.Money{
		"256.87 USD":            {Minor: 25687, Currency: "USD"},
		"0.05 EUR":              {Minor: 5, Currency: "EUR"},
		"1500 JPY":              {Minor: 1500, Currency: "JPY"},
		"0.001 KWD":             {Minor: 1, Currency: "KWD"},
		"9999999999999.99 USD":  {Minor: 999_999_999_999_999, Currency: "USD"},
		"25687 minor units ZZZ": {Minor: 25687, Currency: "ZZZ"},
	} {
		if got := m.String(); got != want {
			t.Errorf("%d %s: got %q, want %q", m.Minor, m.Currency, got, want)
		}
	}
}
