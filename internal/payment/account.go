package payment

import (
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of an account, in characters: ISO 20022 gives other identifications Max34Text; the scheme name is Max35Text.
const (
	accountTypeMax   = 35
	accountNumberMax = 34
)

// IBAN is the one account type whose numbers are checked (ISO 13616: length of the country, structure, mod 97).
const IBAN = "iban"

// Account is an account by the name of its scheme and its number there.
type Account struct {
	Type   string // IBAN, or a name the tenant chose: checking, bban, ….
	Number Private
}

// Format implements fmt.Formatter; see Party.
func (a Account) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, a.Type+" account "+mask) }

func (f *faults) account(atType, atNumber string, c AccountContent) Account {
	a := Account{Type: f.text(atType, c.Type, accountTypeMax)}
	if a.Type != "" && !accountTypeForm(a.Type) {
		f.add(atType, "format", "an account type is lower-case letters, digits, hyphen and underscore, and begins with a letter")
	}
	number := c.Number
	if a.Type == IBAN && utf8.ValidString(number) {
		number = normalIBAN(number)
	}
	number = f.text(atNumber, number, accountNumberMax)
	if a.Type == IBAN && number != "" {
		f.iban(atNumber, number)
	}
	a.Number = Private(number)
	return a
}

// accountTypeForm tells whether s is a name of a scheme: it is part of the partition's hash and of the consumers' switch statements,
// so that one scheme must not have two spellings.
func accountTypeForm(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-') {
			continue
		}
		return false
	}
	return true
}
