package payment

import (
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of an account. ISO 20022 has Max34Text for an account number that is not an IBAN, and
// Max35Text for the name of its scheme.
const (
	accountTypeCharactersMax   = 35
	accountNumberCharactersMax = 34
)

// IBAN is the account type whose numbers are checked (ISO 13616: country, length, check digits).
const IBAN = "iban"

// Account is an account, identified by the name of a scheme and a number in it.
type Account struct {
	// Type is IBAN, or a name that the tenant chose, such as checking or bban.
	Type   string
	Number Private
}

// Format implements fmt.Formatter; see Party.
func (a Account) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, a.Type+" account "+mask) }

func (f *faults) account(atType, atNumber string, c AccountContent) Account {
	a := Account{Type: f.text(atType, c.Type, accountTypeCharactersMax)}
	if a.Type != "" && !isAccountType(a.Type) {
		f.add(atType, "format", "an account type is lower-case letters, digits, hyphen and underscore, "+
			"and begins with a letter")
	}
	if a.Type == IBAN {
		a.Number = Private(f.ibanNumber(atNumber, c.Number))
	} else {
		a.Number = Private(f.identifier(atNumber, c.Number, accountNumberCharactersMax))
	}
	return a
}

// ibanNumber returns an IBAN in electronic form, if it is valid.
func (f *faults) ibanNumber(at, number string) string {
	if utf8.ValidString(number) {
		number = normalIBAN(number)
	}
	number = f.text(at, number, accountNumberCharactersMax)
	if number != "" {
		f.iban(at, number)
	}
	return number
}

// isAccountType reports whether s can name a scheme. One scheme must not have two spellings: its
// name is part of the partition hash, and consumers compare it.
func isAccountType(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-') {
			continue
		}
		return false
	}
	return true
}
