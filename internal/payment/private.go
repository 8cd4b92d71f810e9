package payment

import (
	"fmt"
	"io"
	"log/slog"
)

// mask replaces what must not appear in logs, errors and dumps.
const mask = "***"

// Private is personal data: a name or an account number. All verbs of fmt, slog and encoders print
// "***". Call Reveal for the value.
//
// fmt does not call Format on unexported fields. So do not print a struct that has a Private in
// one.
type Private string

// Reveal returns the string itself.
func (p Private) Reveal() string { return string(p) }

// String implements fmt.Stringer.
func (Private) String() string { return mask }

// Format implements fmt.Formatter, so that no verb (%x, %q, %#v) prints the string.
func (Private) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, mask) }

// LogValue implements slog.LogValuer.
func (Private) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText implements encoding.TextMarshaler, which JSON encoders use.
func (Private) MarshalText() ([]byte, error) { return []byte(mask), nil }
