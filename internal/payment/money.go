package payment

import (
	"strconv"
	"strings"

	"github.com/bojanz/currency"
)

// amountMinorUnitsMax is the largest amount. JSON parsers represent integers of 15 digits exactly
// (RFC 7493 section 2.2: up to 2^53 - 1).
const amountMinorUnitsMax = 999_999_999_999_999

// Money is an amount of a currency: {25687 USD} is 256.87 dollars, {1500 JPY} is 1,500 yen.
type Money struct {
	// Minor is the amount in minor units.
	Minor int64
	// Currency is an ISO 4217 code.
	Currency string
}

// String returns the amount in major units and the code: "256.87 USD". The number of digits is that
// of ISO 4217. If a currency has left ISO 4217 since, it returns minor units.
func (m Money) String() string {
	a, err := currency.NewAmountFromInt64(m.Minor, m.Currency)
	if err != nil {
		return strconv.FormatInt(m.Minor, 10) + " minor units " + m.Currency
	}
	return a.Number() + " " + a.CurrencyCode()
}

// money checks an amount literal and a currency code. It refuses 12.00 and 1e3 although their
// values are integers. So an amount has the same text wherever it is signed, compared or stored.
func (f *faults) money(literal, code string) Money {
	minor, err := strconv.ParseInt(literal, 10, 64)
	switch {
	case literal == "":
		f.add("/amount", "required", "amount is required")
	case !isIntegerLiteral(literal):
		f.add("/amount", "integer",
			"amount is in minor units and must be written as an integer, without fraction or exponent")
	case err != nil || minor < 1 || minor > amountMinorUnitsMax:
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

// isIntegerLiteral reports whether a JSON number (RFC 8259 section 6) is written as an integer.
func isIntegerLiteral(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] == '0' && len(digits) > 1 {
		return false
	}
	return strings.Trim(digits, "0123456789") == ""
}
