package payment

import "errors"

// keyBytesMax is the length of the longest idempotency key. Stripe's API has the same limit:
// https://docs.stripe.com/api/idempotent_requests
const keyBytesMax = 255

// Key is an idempotency key: 1 to 255 visible ASCII characters. The zero value is not a key.
type Key struct{ s string }

// ErrKey is returned for an invalid idempotency key.
var ErrKey = errors.New("an idempotency key is 1 to 255 visible ASCII characters (0x21 to 0x7E) " +
	"that do not begin with a quote, bare or as a quoted string (RFC 8941)")

// ParseKey parses an idempotency key. It accepts the bare form, which most clients send, and the
// quoted string (RFC 8941 section 3.3.3) of draft-ietf-httpapi-idempotency-key-header. Both forms
// of a value are the same key.
//
// A value that begins with a quote is refused: its bare form would be parsed as another key.
func ParseKey(s string) (Key, error) {
	if s != "" && s[0] == '"' {
		var ok bool
		s, ok = unquote(s)
		if !ok {
			return Key{}, ErrKey
		}
	}
	if s == "" || len(s) > keyBytesMax || s[0] == '"' {
		return Key{}, ErrKey
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return Key{}, ErrKey
		}
	}
	return Key{s}, nil
}

// String returns the bare form.
func (k Key) String() string { return k.s }

// unquote parses a string of RFC 8941, in which only the quote and the backslash may be escaped.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", false
	}
	s = s[1 : len(s)-1]
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '"' {
			return "", false
		}
		if c == '\\' {
			i++
			if i == len(s) || (s[i] != '"' && s[i] != '\\') {
				return "", false
			}
			c = s[i]
		}
		out = append(out, c)
	}
	return string(out), true
}
