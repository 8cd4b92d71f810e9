package payment

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/google/uuid"
)

// ID identifies a payment. It is a UUIDv8 (RFC 9562 section 5.8) that DeriveID makes from the
// tenant's salt and the idempotency key.
type ID uuid.UUID

var errID = errors.New("not a payment id")

// ParseID parses the lower-case form of 36 characters. It refuses the other forms of UUIDs, so that
// a payment has only one URL.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s {
		return ID{}, errID
	}
	return ID(u), nil
}

// String returns the lower-case form of 36 characters.
func (id ID) String() string { return uuid.UUID(id).String() }

// Append appends the form that String returns.
func (id ID) Append(b []byte) []byte {
	b = hex.AppendEncode(b, id[:4])
	for _, group := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = hex.AppendEncode(append(b, '-'), group)
	}
	return b
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// DeriveID returns the id of the payment of a tenant under key: the first 128 bits of
// HMAC-SHA-256(salt, key), with version 8 and the variant of RFC 9562. If the key is a UUIDv7, its
// 48 bits of time come first, which only improves the locality of the index.
//
// The id depends on salt and key, and never on the clock. So a retry finds its payment on any
// replica, at any time, and after a restore of the database. Each tenant has a salt of its own, so
// that two tenants may use the same key.
//
// The derivation must never change: testdata/ids.json has test vectors.
func DeriveID(salt Salt, key Key) ID {
	mac := hmac.New(sha256.New, salt[:])
	mac.Write([]byte(key.s))
	var id ID
	copy(id[:], mac.Sum(nil))
	// uuid.Parse also accepts longer and shorter forms, which no client generates.
	if len(key.s) == 36 {
		u, err := uuid.Parse(key.s)
		if err == nil && u.Version() == 7 && u.Variant() == uuid.RFC4122 {
			copy(id[:6], u[:6])
		}
	}
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
