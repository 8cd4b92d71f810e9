package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/paylatch/paylatch/internal/payment"
)

// tagPurpose separates entity tags from what else may be derived from a tenant's salt.
const tagPurpose = "\x00etag 1\x00"

// etag returns the entity tag of a version of a payment, as this response shows it. The content of
// a payment never changes, so what can change identifies the version: the status, and where and
// when the payment was emitted. A payment that is sent again has another tag.
//
// The tag is the same on all replicas. It is half of a SHA-256 that begins with the 256 bits of the
// tenant's salt, so it reveals no offset and cannot be guessed. An HMAC would take eight more
// allocations for each status query. It protects a hash of which all bits are known from being
// continued; these are 128 of 256 bits.
func (x *exchange) etag(p *payment.Payment) string {
	var buffer [160]byte // Enough for all that follows, without an allocation.
	message := append(buffer[:0], x.tenant.Salt[:]...)
	message = append(message, tagPurpose...)
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
	sum := sha256.Sum256(message)
	tag := append(make([]byte, 0, 24), '"')
	tag = base64.RawURLEncoding.AppendEncode(tag, sum[:16])
	return string(append(tag, '"'))
}
