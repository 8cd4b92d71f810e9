package operatorlog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Hash is a SHA-256 of a row and of all rows before it.
type Hash [sha256.Size]byte

// String returns the hash in 64 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(h) {
		return errHash
	}
	*h = Hash(b)
	return nil
}

var errHash = errors.New("must be a hash, in 64 hexadecimal digits")

// Head names the last row of the log, and by its hash all rows before it.
type Head struct {
	Seq  int64 `json:"seq"`
	Hash Hash  `json:"hash"`
}

// String returns the head as commands print it, and as UnmarshalText reads it.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

var errHead = errors.New("must be a row and its hash, as commands print them: 17:9f86d081… with 64 hexadecimal digits")

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Head) UnmarshalText(text []byte) error {
	seq, digits, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
	n, err := strconv.ParseInt(seq, 10, 64)
	var hash Hash
	if err != nil || n < 1 || hash.UnmarshalText([]byte(digits)) != nil {
		return errHead
	}
	*h = Head{n, hash}
	return nil
}

// Format is the format that Sum knows.
const Format = 1

// Sum returns the hash that the row must have: SHA-256 over Previous and the encoding of the row.
//
// The encoding begins with the format in one byte. Integers follow in eight bytes, big-endian, the
// time in microseconds since 1970. Texts follow as their length in bytes, in four bytes, and the
// UTF-8. The order is that of the table. The function operator_log_encoding of the schema has the
// same encoding. It never changes: another one gets another format.
func (e Entry) Sum() Hash {
	b := append(make([]byte, 0, encodingBytes), e.Previous[:]...)
	b = append(b, Format)
	b = integers(b, e.Seq, e.At.UnixMicro(), e.Database.SystemID, int64(e.Database.Timeline), e.Database.DatabaseID,
		e.Database.TableID)
	b = texts(b, e.Role, e.ClientAddress, e.OSUser, e.Host, e.Version, e.Command, e.Action, string(e.Phase))
	b = integers(b, e.Begun)
	b = texts(b, string(e.Result), string(e.Arguments), string(e.Before), string(e.After))
	return sha256.Sum256(b)
}

// encodingBytes is what most rows need.
const encodingBytes = 1 << 10

func integers(b []byte, values ...int64) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func texts(b []byte, values ...string) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}
