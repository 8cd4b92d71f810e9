package payment

import (
	"strconv"
	"strings"

	"github.com/bojanz/currency"
)

// amountMax is the largest amount, in minor units: 15 digits are exact in every JSON parser (RFC 7493 section 2.2 promises 2^53 - 1).
const amountMax = 999_999_999_999_999

// Money is an amount in minor units of an ISO 4217 currency: {25687 USD} is 256.87 dollars, {1500 JPY} is 1,500 yen.
type Money struct {
	Minor    int64
	Currency string
}

// String returns the amount in major units with the digits that ISO 4217 gives the currency, and its code: "256.87 USD".
func (m Money) String() string {
	a, err := currency.NewAmountFromInt64(m.Minor, m.Currency)
	if err != nil { // A currency that has left ISO 4217 since the payment was stored.
		return strconv.FormatInt(m.Minor, 10) + " minor units " + m.Currency
	}
	return a.Number() + " " + a.CurrencyCode()
}

// money checks an amount literal and a currency code. 12.50 and 1e3 are refused even where they would be integers in value: what is
// signed, compared and stored is then the same text everywhere.
func (f *faults) money(literal, code string) Money {
	minor, err := strconv.ParseInt(literal, 10, 64)
	switch {
	case literal == "":
		f.add("/amount", "required", "amount is required")
	case !integerLiteral(literal):
		f.add("/amount", "integer", "amount is in minor units and must be written as an integer, without fraction or exponent")
	case err != nil || minor < 1 || minor > amountMax:
		f.add("/amount", "range", "amount must be between 1 and 999999999999999")
	}
	switch {
	case code == "":
		f.add("/currency", "required", "currency is required")
	case !currency.IsValid(code):
		f.add("/currency", "unknown", "currency must be an ISO 4217 code of three upper-case letters")
	}
	return Money{Minor: minor, Currency: code}
}

// integerLiteral tells whether a JSON number literal (RFC 8259 section 6) is an integer by its form.
func integerLiteral(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] == '0' && len(digits) > 1 {
		return false
	}
	return strings.Trim(digits, "0123456789") == ""
}
