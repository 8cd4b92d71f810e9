package payment

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// referenceCharactersMax is the length of the longest reference: EndToEndId of ISO 20022 is
// Max35Text. A row has at most 200 bytes, so there is no room for more.
const referenceCharactersMax = 35

// normal returns the form in which text is stored, compared and sent: Unicode NFC without outer
// blanks. So two encodings of a name are the same content, and a retry from another client library
// is not refused for other content.
func normal(s string) string { return strings.TrimSpace(norm.NFC.String(s)) }

// text normalizes a required text and checks it. It returns "" if it added a fault.
func (f *faults) text(at, s string, charactersMax int) string {
	normalized := normal(s)
	switch {
	case !utf8.ValidString(s):
		f.add(at, "characters", "must be valid UTF-8")
	case !strings.ContainsFunc(normalized, isVisible):
		f.add(at, "required", "is required and must not be blank")
	case utf8.RuneCountInString(normalized) > charactersMax:
		f.add(at, "length", "must have at most "+strconv.Itoa(charactersMax)+" characters")
	case strings.ContainsFunc(normalized, isForbidden):
		f.add(at, "characters", "must not contain control characters, line breaks or changes of writing direction")
	default:
		return normalized
	}
	return ""
}

// isVisible reports whether a text that contains r is not blank. Zero-width characters alone are
// blank.
func isVisible(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }

// reference checks the optional reference. If it is present, it must not be empty.
func (f *faults) reference(s *string) string {
	if s == nil {
		return ""
	}
	return f.text("/reference", *s, referenceCharactersMax)
}

// isForbidden reports whether no text may contain r. Forbidden are:
//
//   - control characters: PostgreSQL cannot store NUL, and terminals execute others;
//   - line breaks;
//   - bidirectional embeddings, overrides and isolates, which change how a text is displayed
//     (UTS #39).
func isForbidden(r rune) bool {
	return unicode.IsControl(r) || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}
