package loadtest

import (
	"fmt"
	"strconv"
)

// minorDigits has the decimals of the currencies that samples use (ISO 4217).
var minorDigits = map[string]int{"EUR": 2, "GBP": 2, "JPY": 0, "USD": 2}

// moneyText returns an amount such as 256.87 USD or 1500 JPY. For a currency with unknown decimals
// it returns the number of minor units, such as 1234 minor TND.
func moneyText(amount int64, currency string) string {
	n, known := minorDigits[currency]
	switch {
	case !known:
		return strconv.FormatInt(amount, 10) + " minor " + currency
	case n == 0:
		return strconv.FormatInt(amount, 10) + " " + currency
	}
	unit := int64(1)
	for range n {
		unit *= 10
	}
	return fmt.Sprintf("%d.%0*d %s", amount/unit, n, amount%unit, currency)
}
