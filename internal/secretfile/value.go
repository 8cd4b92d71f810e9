// Package secretfile reads secrets and other settings that are kept in files, and reads them again
// when they change. Nothing in it prints a secret.
//
// A secret is a setting with two flags: --name has type Text, and --name-file has type File.
// Package cli refuses that both are given. Of makes one Value of the two.
package secretfile

import (
	"context"
	"log/slog"
)

// redacted stands where a secret would be printed.
const redacted = "[redacted]"

// Text is a secret that is given as it is. Convert it to a string to use it.
type Text string

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Text) UnmarshalText(text []byte) error {
	*t = Text(text)
	return nil
}

// Secret reports whether the text is a secret, which no process list should show.
func (t Text) Secret() bool { return t != "" }

// String hides the secret.
func (t Text) String() string {
	if t == "" {
		return ""
	}
	return redacted
}

// GoString hides the secret from %#v.
func (t Text) GoString() string { return t.String() }

// MarshalText hides the secret in JSON and in the log.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Value is a secret from a Text or a File. The zero Value is not given. Copies share what was read.
// Safe for concurrent use.
type Value struct {
	// text is a pointer, which fmt does not follow in a field of another struct.
	text *Text
	file File
}

// Of returns the secret that one of the two holds.
func Of(text Text, file File) Value {
	if text == "" {
		return Value{file: file}
	}
	return Value{text: &text, file: file}
}

// IsGiven reports whether there is a secret.
func (v Value) IsGiven() bool { return v.text != nil || v.file.IsGiven() }

// Current returns the secret as it is now; empty if none is given.
func (v Value) Current() string {
	if v.text != nil {
		return string(*v.text)
	}
	return v.file.Current()
}

// Get returns Current. It has the form that clients of brokers and databases call for credentials.
func (v Value) Get(context.Context) (string, error) { return v.Current(), nil }

// LogTo makes faults of later reads go to the logger.
func (v Value) LogTo(logger *slog.Logger) { v.file.LogTo(logger) }

// String hides the secret.
func (v Value) String() string {
	if !v.IsGiven() {
		return ""
	}
	return redacted
}

// GoString hides the secret from %#v.
func (v Value) GoString() string { return v.String() }

// MarshalText hides the secret in JSON.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// LogValue hides the secret in the log.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }
