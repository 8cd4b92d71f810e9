package payment

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// referenceMax is the longest reference, in characters: ISO 20022 EndToEndId is Max35Text, and longer ones would break the budget of
// 200 bytes a row.
const referenceMax = 35

// normal returns the form in which text is stored, compared and answered: Unicode NFC without outer blanks. Two spellings of one name
// are then one content, and a retry from another client library is no "other content".
func normal(s string) string { return strings.TrimSpace(norm.NFC.String(s)) }

// text brings a required text into its normal form and checks its bounds. It returns an empty one when a fault was added.
func (f *faults) text(at, s string, charactersMax int) string {
	normalised := normal(s)
	switch {
	case !utf8.ValidString(s):
		f.add(at, "characters", "must be valid UTF-8")
	case !strings.ContainsFunc(normalised, visible):
		f.add(at, "required", "is required and must not be blank")
	case utf8.RuneCountInString(normalised) > charactersMax:
		f.add(at, "length", "must have at most "+strconv.Itoa(charactersMax)+" characters")
	case strings.ContainsFunc(normalised, unprintable):
		f.add(at, "characters", "must not contain control characters, line breaks or changes of writing direction")
	default:
		return normalised
	}
	return ""
}

// visible tells what a text must have one of: a name of nothing but zero-width characters is blank to everyone who reads it.
func visible(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }

// reference checks the optional reference. An empty one is refused rather than taken as none: it is a fault of the client's.
func (f *faults) reference(s *string) string {
	if s == nil {
		return ""
	}
	return f.text("/reference", *s, referenceMax)
}

// unprintable tells what no text may hold: controls (PostgreSQL cannot store NUL; terminals obey the others), line breaks, and the embeddings and
// isolates that make a text read otherwise than it is stored (UTS #39).
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}
