package payment

import (
	"fmt"
	"io"
	"log/slog"
)

// mask stands in logs, errors and dumps for what may not be there.
const mask = "***"

// Private is a string that names a person or an account. It masks itself wherever it is printed, logged or marshalled without
// anyone having thought about it; the rooms that must write it out (the answer, the row, the event) say so by Reveal. One way past the mask is left: fmt cannot ask a value in an unexported field
// of another type, so such a struct is not to be printed.
type Private string

// Reveal returns the string itself.
func (p Private) Reveal() string { return string(p) }

// String implements fmt.Stringer.
func (Private) String() string { return mask }

// Format implements fmt.Formatter, so that no verb (%x, %q, %#v) shows the string.
func (Private) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, mask) }

// LogValue implements slog.LogValuer.
func (Private) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText implements encoding.TextMarshaler, which is what JSON encoders use.
func (Private) MarshalText() ([]byte, error) { return []byte(mask), nil }
