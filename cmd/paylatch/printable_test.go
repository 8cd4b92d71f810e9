package main

import "testing"

// TestPrintable: a text that would look like another row, or that a terminal would execute, is
// quoted.
func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"host-1": "host-1", "müller": "müller", `{"a": 1}`: `{"a": 1}`,
		"h\n99  boss\x1b[2J": `"h\n99  boss\x1b[2J"`, "a\tb": `"a\tb"`,
	} {
		if got := printable(text); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
