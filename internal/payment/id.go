package payment

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/google/uuid"
)

// ID identifies a payment: a UUIDv8 (RFC 9562 section 5.8) made from the tenant's salt and the idempotency key by DeriveID.
type ID uuid.UUID

var errID = errors.New("not a payment id")

// ParseID reads the 36-character form. Every other form that UUIDs are sometimes written in is refused, so that one payment has one URL.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s {
		return ID{}, errID
	}
	return ID(u), nil
}

// String returns the 36-character lower-case form.
func (id ID) String() string { return uuid.UUID(id).String() }

// Append appends the 36-character form.
func (id ID) Append(b []byte) []byte {
	b = hex.AppendEncode(b, id[:4])
	for _, group := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = hex.AppendEncode(append(b, '-'), group)
	}
	return b
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// DeriveID makes the id of the payment that a tenant asks for under key: the first 128 bits of HMAC-SHA-256(salt, key), with version
// 8 and the RFC 9562 variant set. When the key is itself a UUIDv7, its 48 bits of time go first, for index locality only.
//
// The id is a pure function of salt and key, never of the clock: a retry finds its payment on any replica, at any time, and after the
// database was put back to an earlier state. The salt is the tenant's own, so that two tenants may use one key.
func DeriveID(salt Salt, key Key) ID {
	mac := hmac.New(sha256.New, salt[:])
	mac.Write([]byte(key.s))
	var id ID
	copy(id[:], mac.Sum(nil))
	if len(key.s) == 36 { // uuid.Parse also takes braces and urn: forms, which are not what clients generate.
		if u, err := uuid.Parse(key.s); err == nil && u.Version() == 7 && u.Variant() == uuid.RFC4122 {
			copy(id[:6], u[:6])
		}
	}
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
