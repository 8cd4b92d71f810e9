package payment

import "strings"

// ibanLength is the length of an IBAN by country, from the IBAN registry that SWIFT keeps for ISO
// 13616. Libraries lack the countries of recent years, and a valid account must not be refused.
var ibanLength = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27,
	"BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28,
	"EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
	"GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
	"IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
	"LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
	"NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
	"RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25,
	"SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}

// normalIBAN returns the electronic form: no blanks, upper case (ISO 13616-1). It folds ASCII only:
// an IBAN has no other letters, and some of them (U+017F, U+212A) would become valid ones.
func normalIBAN(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return -1
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, strings.TrimSpace(s))
}

// iban checks a number in electronic form: characters, country, length and check digits. It does
// not check the national part.
func (f *faults) iban(at, number string) {
	length, known := 0, false
	if len(number) >= 2 {
		length, known = ibanLength[number[:2]]
	}
	switch {
	case !known:
		f.add(at, "iban_country", "the IBAN begins with no country of the IBAN registry")
	case !hasIBANCharacters(number):
		f.add(at, "iban_format", "an IBAN is a country code, two digits, and letters and digits")
	case len(number) != length:
		f.add(at, "iban_length", "the IBAN has not the length of its country")
	case ibanRemainder(number) != 1 || number[2:4] < "02" || number[2:4] > "98":
		f.add(at, "iban_checksum", "the IBAN's check digits are wrong")
	}
}

// hasIBANCharacters reports whether s consists of upper-case letters and digits, with digits in the
// third and fourth place.
func hasIBANCharacters(s string) bool {
	for i := range len(s) {
		digit, letter := s[i] >= '0' && s[i] <= '9', s[i] >= 'A' && s[i] <= 'Z'
		if !digit && (!letter || i == 2 || i == 3) {
			return false
		}
	}
	return true
}

// ibanRemainder returns the remainder of ISO/IEC 7064 MOD 97-10: the first four characters are
// moved to the end, and letters count as 10 to 35. A valid IBAN has 1, and check digits from 02 to
// 98: 00, 01 and 99 would have the same remainder as valid ones.
func ibanRemainder(s string) int {
	remainder := 0
	for _, c := range []byte(s[4:] + s[:4]) {
		if c >= 'A' {
			remainder = (remainder*100 + int(c-'A') + 10) % 97
		} else {
			remainder = (remainder*10 + int(c-'0')) % 97
		}
	}
	return remainder
}
