package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/paylatch/paylatch/internal/payment"
)

// tagPurpose separates entity tags from what else is derived from a tenant's salt: it begins with a
// byte that no idempotency key has; see payment.DeriveID.
const tagPurpose = "\x00etag 1\x00"

// etag returns the entity tag of a version of a payment, as this response shows it. The content of
// a payment never changes, so what can change identifies the version: the status, and where and
// when the payment was emitted. A payment that is sent again has another tag.
//
// The tag is the same on all replicas. It is the first 128 bits of an HMAC-SHA-256 with the
// tenant's salt, so it reveals no offset and cannot be guessed.
func (x *exchange) etag(p *payment.Payment) string {
	message := append(make([]byte, 0, 128), tagPurpose...)
	message = append(message, p.ID[:]...)
	message = append(append(message, p.Status...), 0)
	if p.Emission != nil {
		message = binary.BigEndian.AppendUint32(message, uint32(p.Partition))
		message = binary.BigEndian.AppendUint64(message, uint64(p.Emission.Offset))
		message = binary.BigEndian.AppendUint64(message, uint64(p.Emission.At.UnixMicro()))
	}
	if x.showPosition {
		message = append(message, 1)
	}
	mac := hmac.New(sha256.New, x.tenant.Salt[:])
	mac.Write(message)
	var sum [sha256.Size]byte
	return `"` + base64.RawURLEncoding.EncodeToString(mac.Sum(sum[:0])[:16]) + `"`
}
