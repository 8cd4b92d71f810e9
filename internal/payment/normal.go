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
	case strings.ContainsRune(normalized, graphemeJoiner) && !strings.ContainsRune(s, graphemeJoiner):
		f.add(at, "characters", "must not have more than 30 combining marks in a row")
	case utf8.RuneCountInString(normalized) > charactersMax:
		f.addLength(at, charactersMax)
	case hasForbidden(normalized):
		f.add(at, "characters", "must not contain control characters, line breaks, changes of writing direction, "+
			"and characters that are invisible or that Unicode does not assign")
	default:
		return normalized
	}
	return ""
}

func (f *faults) addLength(at string, charactersMax int) {
	f.add(at, "length", "must have at most "+strconv.Itoa(charactersMax)+" characters")
}

// identifier checks a required identifier, and removes outer blanks. It has printable ASCII only:
// two identifiers that look alike must not be two parties or two accounts. It returns "" if it
// added a fault.
func (f *faults) identifier(at, s string, charactersMax int) string {
	trimmed := strings.TrimSpace(s)
	switch {
	case utf8.ValidString(s) && !strings.ContainsFunc(trimmed, isVisible):
		f.add(at, "required", "is required and must not be blank")
	case strings.ContainsFunc(trimmed, isNotPrintableASCII):
		f.add(at, "characters", "must have printable ASCII characters only")
	case len(trimmed) > charactersMax:
		f.addLength(at, charactersMax)
	default:
		return trimmed
	}
	return ""
}

func isNotPrintableASCII(r rune) bool { return r < ' ' || r > '~' }

// brailleBlank is a symbol without a dot, which looks like a space.
const brailleBlank = '\u2800'

// isVisible reports whether a text that contains r is not blank. A mark alone is blank, since it
// belongs to a character before it.
func isVisible(r rune) bool {
	return unicode.IsGraphic(r) && !unicode.IsSpace(r) && !unicode.IsMark(r) && !isIgnorable(r) && r != brailleBlank
}

// reference checks the optional reference. If it is present, it must not be empty.
func (f *faults) reference(s *string) string {
	if s == nil {
		return ""
	}
	return f.text("/reference", *s, referenceCharactersMax)
}

// The characters that join or part letters of some scripts, and are invisible themselves.
const (
	zeroWidthNonJoiner = '\u200c'
	zeroWidthJoiner    = '\u200d'
	// graphemeJoiner is also what package norm inserts after 30 combining marks in a row (UAX #15
	// section 13). The text would then not be what the client sent.
	graphemeJoiner = '\u034f'
)

// hasForbidden reports whether s has a character that no text may contain. A joiner is forbidden
// unless it is between letters, where Persian, Malayalam and other languages need it.
func hasForbidden(s string) bool {
	before := rune(0)
	for i, r := range s {
		switch r {
		case zeroWidthNonJoiner, zeroWidthJoiner:
			after, _ := utf8.DecodeRuneInString(s[i+utf8.RuneLen(r):])
			if !isOfLetter(before) || !isOfLetter(after) {
				return true
			}
		default:
			if isForbidden(r) {
				return true
			}
		}
		before = r
	}
	return false
}

// isOfLetter reports whether r is a letter or a mark on one.
func isOfLetter(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) }

// isForbidden reports whether no text may contain r. Forbidden are:
//
//   - control characters: PostgreSQL cannot store NUL, and terminals execute others;
//   - line breaks;
//   - bidirectional embeddings, overrides and isolates, which change how a text is displayed
//     (UTS #39);
//   - invisible characters, see isIgnorable: two texts that look alike would differ;
//   - what Unicode has not assigned, which has no meaning and no fixed normal form yet.
func isForbidden(r rune) bool {
	if r < unicode.MaxLatin1 && r != softHyphen {
		return unicode.IsControl(r) // Most characters.
	}
	return r == '\u2028' || r == '\u2029' || isIgnorable(r) || unicode.Is(unicode.Cn, r)
}

const softHyphen = '\u00ad'

// isIgnorable reports whether r is displayed as nothing: a superset of the Unicode property
// Default_Ignorable_Code_Point, which is derived from these tables. Some marks that precede a
// number in Arabic are of category Cf and visible.
func isIgnorable(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
		!unicode.Is(unicode.Prepended_Concatenation_Mark, r)
}
