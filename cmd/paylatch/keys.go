package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// keySettings are those of a new API key.
type keySettings struct {
	Env string `default:"live" help:"The environment in the name of the key: live, test, …. Keys of test and dev work only in a test installation (setup --test-installation)."`
	termSettings
}

// termSettings are those of a new API key or certificate.
type termSettings struct {
	Scope   payment.Scopes `default:"payments:create,payments:read" help:"What the key may be used for, separated by commas: payments:create, payments:read."`
	Expires expiry         `placeholder:"WHEN" help:"When the key ends: a date like 2027-01-31 (its beginning, in UTC), a time like 2027-01-31T12:00:00Z, or a time from now like 90d or 12h. Without it the key does not end."`
	Note    keyNote        `placeholder:"TEXT" help:"A note for operators, of at most 200 characters; list shows it."`
}

// terms returns what the key is for.
func (k termSettings) terms() store.APIKeyTerms {
	return store.APIKeyTerms{
		Scopes: k.Scope, ExpiresAt: k.Expires.at, ExpiresAfter: k.Expires.after, Note: string(k.Note),
	}
}

// expiry is when a key ends. The zero value is never.
type expiry struct {
	at    time.Time
	after time.Duration
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *expiry) UnmarshalText(text []byte) error {
	s := string(text)
	if at, err := time.Parse(time.DateOnly, s); err == nil {
		*e = expiry{at: at}
		return nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		*e = expiry{at: at}
		return nil
	}
	const daysMax = 36_500 // A hundred years.
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= daysMax {
			*e = expiry{after: time.Duration(n) * 24 * time.Hour}
			return nil
		}
	}
	after, err := time.ParseDuration(s)
	if err != nil || after <= 0 || after > daysMax*24*time.Hour {
		return fmt.Errorf("%.40q is no date, no time, and no positive time from now", s)
	}
	*e = expiry{after: after}
	return nil
}

// keyNote is a note on a key.
type keyNote string

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *keyNote) UnmarshalText(text []byte) error {
	const charactersMax = 200
	if count := utf8.RuneCount(text); !utf8.Valid(text) || count > charactersMax {
		return fmt.Errorf("must be UTF-8 of at most %d characters; it has %d", charactersMax, count)
	}
	if i := bytes.IndexFunc(text, unicode.IsControl); i >= 0 {
		return fmt.Errorf("has a control character at byte %d", i)
	}
	*n = keyNote(text)
	return nil
}

// envForm is what an API key's environment may be.
var envForm = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

func (k keySettings) newKey() (payment.APIKey, error) {
	if !envForm.MatchString(k.Env) {
		return payment.APIKey{}, fmt.Errorf("--env %q: must be 1 to 16 lower-case letters and digits", k.Env)
	}
	return payment.NewAPIKey(k.Env)
}
