package payment

import "errors"

// keyMax is the longest idempotency key, in bytes: what most of the field takes (facts: Stripe, Column 255).
const keyMax = 255

// Key is an idempotency key: 1 to 255 visible ASCII characters. The zero value is no key.
type Key struct{ s string }

// ErrKey says what an idempotency key must look like.
var ErrKey = errors.New("an idempotency key is 1 to 255 visible ASCII characters (0x21 to 0x7E) that do not begin with a quote, bare or as a quoted string (RFC 8941)")

// ParseKey reads an idempotency key as clients write it: bare, as most do, or as the quoted string (RFC 8941 section 3.3.3) that
// draft-ietf-httpapi-idempotency-key-header asks for. Both forms of one value are the same key.
func ParseKey(s string) (Key, error) {
	if s != "" && s[0] == '"' {
		var ok bool
		if s, ok = unquote(s); !ok {
			return Key{}, ErrKey
		}
	}
	if s == "" || len(s) > keyMax || s[0] == '"' { // A value that begins with a quote would read back as another key.
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

// unquote reads an RFC 8941 string, in which only the quote and the backslash may be escaped.
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
