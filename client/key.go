package client

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// idempotencyKeyBytesMax is the API's bound.
const idempotencyKeyBytesMax = 255

// NewKey returns a new idempotency key: a UUIDv7. Store it before you call [Client.Create].
func NewKey() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an idempotency key: %w", err)
	}
	return id.String(), nil
}

// checkIdempotencyKey refuses what cannot be a header, or would be refused by every server.
func checkIdempotencyKey(key string) error {
	if key == "" || len(key) > idempotencyKeyBytesMax || !visibleASCII(key) {
		return fmt.Errorf("an idempotency key is 1 to %d visible ASCII characters", idempotencyKeyBytesMax)
	}
	return nil
}

// checkAPIKey does not show the value: it is a secret.
func checkAPIKey(key string) error {
	switch {
	case key == "":
		return errors.New("key: an API key is needed")
	case !visibleASCII(key):
		return errors.New("key: an API key is visible ASCII only")
	}
	return nil
}

// visibleASCII reports whether s consists of 0x21 to 0x7E, which a header carries without quoting.
func visibleASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7E }) < 0
}
