package payment_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/paylatch/paylatch/internal/payment"
)

// nameFaults returns the faults of a payment whose beneficiary has the name.
func nameFaults(t *testing.T, name string) []string {
	t.Helper()
	return faultsOf(t, content(func(c *payment.Content) { c.Beneficiary.Name = name }))
}

// TestNew_Blank: a name of characters that are displayed as nothing is no name.
func TestNew_Blank(t *testing.T) {
	for _, name := range []string{
		"\u3164", "\ufe0f", "\u034f", "\u2800", "\u115f", "\u1160", "\uffa0", "\U000e0100", "\u200b", "\u200d",
		"\u00ad", "\u180e", "\u2060", "\ufeff", "\U000e0041", "\u0301", "\u17b4", " \u2800\u3164 ",
	} {
		if got := nameFaults(t, name); !slices.Equal(got, []string{"/beneficiary/name required"}) {
			t.Errorf("%+q: got faults %q, want required", name, got)
		}
	}
}

// TestNew_Invisible: a name may not have a character that is displayed as nothing, or that Unicode
// has not assigned. A joiner may be between letters.
func TestNew_Invisible(t *testing.T) {
	for name, refused := range map[string]bool{
		"Ada\u3164": true, "Ad\ufe0fa": true, "A\u034fda": true, "A\u00adda": true, "Ada\U000e0100": true,
		"Ada\u200b": true, "Ada\u200e": true, "Ada\u200f": true, "Ada\u061c": true, "A\u2060da": true,
		"A\ufeffda":     true,
		"A\U000e0061da": true, "A\u180bda": true, "A\ufff9da": true,
		"Ada\ufdd0": true, "Ada\uffff": true, "Ada\U0010ffff": true, "Ada\U0001fffe": true, "Ada\u0378": true,
		"\u200dAda": true, "Ada\u200d": true, "Ada \u200dB": true, "A\u200d\u200dda": true, "7\u200c7": true,
		"\U0001f469\u200d\U0001f4bb":                                  true,
		"\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645":            false, // Persian.
		"\u0d28\u0d4d\u200d\u0d2e":                                    false, // Malayalam.
		"\u0915\u094d\u200d\u0937":                                    false, // Hindi.
		"Zo\u00eb \u0141ukasz \u6771\u4eac \ud55c\uad6d \u05d0\u05d1": false,
		"\u0601\u0661": false, // A visible mark before a number, of category Cf.
		"O\u2019Brien & S\u00f6hne \u20ac \U0001f600": false,
	} {
		got := nameFaults(t, name)
		if want := []string{"/beneficiary/name characters"}; refused && !slices.Equal(got, want) ||
			!refused && len(got) > 0 {
			t.Errorf("%+q: got faults %q, want it refused: %t", name, got, refused)
		}
	}
}

// TestNew_EveryCharacter puts each code point into a name. Those that the tables of Unicode call
// invisible, unassigned or a control character are refused, and all others are taken. Of the
// unassigned ones it takes those at the end of a range, and some of the others.
func TestNew_EveryCharacter(t *testing.T) {
	const inOneName = 30 // Some have four characters in NFC.
	var taken []rune
	for r := range unicode.MaxRune + 1 {
		switch {
		case r >= 0xd800 && r < 0xe000: // Not in UTF-8.
		case !isInvisible(r):
			taken = append(taken, r)
		case !unicode.Is(unicode.Cn, r), !unicode.Is(unicode.Cn, r-1), !unicode.Is(unicode.Cn, r+1), r%1009 == 0:
			if len(nameFaults(t, "a"+string(r)+"b")) == 0 {
				t.Errorf("%U: got it taken, want it refused", r)
			}
		}
	}
	if len(taken) < 100_000 {
		t.Fatalf("got %d characters that are taken, want all of Unicode's", len(taken))
	}
	for part := range slices.Chunk(taken, inOneName) {
		var name strings.Builder
		for _, r := range part {
			name.WriteString("a" + string(r))
		}
		if got := nameFaults(t, name.String()+"b"); len(got) > 0 {
			t.Errorf("%U to %U: got faults %q, want them taken", part[0], part[len(part)-1], got)
		}
	}
}

// isInvisible reports whether a character between two letters is refused.
func isInvisible(r rune) bool {
	if r == '\u200c' || r == '\u200d' {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cn, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point,
		unicode.Variation_Selector) || unicode.Is(unicode.Cf, r) && !unicode.Is(unicode.Prepended_Concatenation_Mark, r)
}

// TestNew_Identifier: an identifier and an account number have one spelling.
func TestNew_Identifier(t *testing.T) {
	for _, f := range textFields {
		if !f.identifier {
			continue
		}
		for _, value := range []string{
			"765543322\u200b", "765\u200f543322", "765\u00ad543322", "\uff17\uff16\uff15", "\u0667\u0666",
			"765\U000e0031",
			"765\u061c", "\u0430bc", "Zo\u00eb", "765\u2010543", "\u212a", "765\u00a0543", "7\t6",
		} {
			got := faultsOf(t, content(func(c *payment.Content) { f.set(c, value) }))
			if !slices.Equal(got, []string{f.pointer + " characters"}) {
				t.Errorf("%s %+q: got faults %q, want characters", f.pointer, value, got)
			}
		}
		every := ""
		for r := '!'; r <= '~'; r++ {
			every += string(r)
		}
		for part := range slices.Chunk([]byte(every), 30) {
			want := "a " + string(part)
			if got := f.get(create(t, content(func(c *payment.Content) { f.set(c, want) }))); got != want {
				t.Errorf("%s: got %q, want %q", f.pointer, got, want)
			}
		}
	}
}

// TestNew_Marks: 30 combining marks in a row are taken as they are. With more, Unicode's
// stream-safe format would have a character that the client did not send.
func TestNew_Marks(t *testing.T) {
	for marks := range 100 {
		name := "a" + strings.Repeat("\u0301", marks)
		got := nameFaults(t, name)
		if refused := len(got) > 0; refused != (marks > 30) {
			t.Errorf("%d marks: got faults %q, want it refused: %t", marks, got, marks > 30)
		}
	}
	_, err := payment.New(tenant(), key(t, "k"), content(func(c *payment.Content) {
		c.Beneficiary.Name = "a" + strings.Repeat("\u0301", 138)
	}))
	if err == nil || !strings.Contains(err.Error(), "30 combining marks") {
		t.Errorf("got error %v, want one that names the bound", err)
	}
}

// checkNFC: what is stored is the NFC of what was sent. Nothing is added, and only outer blanks are
// removed.
func checkNFC(t *testing.T, at, sent, stored string) {
	t.Helper()
	if !norm.NFC.IsNormalString(stored) {
		t.Errorf("%s: got %+q, want NFC", at, stored)
	}
	if got, want := decomposed(stored), decomposed(sent); got != want {
		t.Errorf("%s: got the characters %s, want those of %+q, %s", at, got, sent, want)
	}
}

// decomposed returns the characters of s, each decomposed alone, in order, without blanks.
func decomposed(s string) string {
	var all []rune
	for _, r := range s {
		for _, part := range norm.NFD.String(string(r)) {
			if !unicode.IsSpace(part) {
				all = append(all, part)
			}
		}
	}
	slices.Sort(all)
	return fmt.Sprintf("%U", all)
}
