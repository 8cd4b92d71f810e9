package payment

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
)

// An API key is pl_<env>_<random><checksum>: 32 random characters in base 62 (190 bits), and the
// CRC-32 of all that precedes it in 6. The checksum has two purposes. A mistyped key is refused
// without a query. A scanner finds leaked keys with few false positives.
const (
	apiKeyRandomChars   = 32
	apiKeyChecksumChars = 6
	apiKeyEnvCharsMax   = 16
	base62              = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// hasAPIKeyForm reports whether s is pl_, 1 to 16 characters of a-z and 0-9, an underscore, and 38
// characters of base 62. It runs for each request, so it uses no regular expression.
func hasAPIKeyForm(s string) bool {
	rest, ok := strings.CutPrefix(s, "pl_")
	env, secret, found := strings.Cut(rest, "_")
	if !ok || !found || len(env) < 1 || len(env) > apiKeyEnvCharsMax ||
		len(secret) != apiKeyRandomChars+apiKeyChecksumChars {
		return false
	}
	for i := range len(env) {
		c := env[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	for i := range len(secret) {
		if strings.IndexByte(base62, secret[i]) < 0 {
			return false
		}
	}
	return true
}

var errAPIKey = errors.New("not an API key (pl_<env>_<random><checksum>)")

// APIKey is an API key. It masks itself when it is printed; Reveal returns it.
type APIKey struct{ s string }

// APIKeyHash is the SHA-256 of a key, which is what is stored. A key has too much entropy to be
// guessed, so a slow hash is not needed.
type APIKeyHash [sha256.Size]byte

// NewAPIKey returns a random key for an environment. The operator chooses its name, such as live,
// test or dev.
func NewAPIKey(env string) (APIKey, error) {
	random := make([]byte, apiKeyRandomChars)
	for i := range random {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(base62))))
		if err != nil {
			return APIKey{}, fmt.Errorf("random bits for an API key: %w", err)
		}
		random[i] = base62[n.Int64()]
	}
	return APIKeyOf(env, string(random))
}

// APIKeyOf returns the key with the given random part. paylatch-dev uses it for a key that is the
// same on every machine.
func APIKeyOf(env, random string) (APIKey, error) {
	body := "pl_" + env + "_" + random
	return ParseAPIKey(body + apiKeySum(body))
}

// ParseAPIKey checks the form and the checksum. The error does not contain s.
func ParseAPIKey(s string) (APIKey, error) {
	if !hasAPIKeyForm(s) {
		return APIKey{}, errAPIKey
	}
	body, sum := s[:len(s)-apiKeyChecksumChars], s[len(s)-apiKeyChecksumChars:]
	if apiKeySum(body) != sum {
		return APIKey{}, errAPIKey
	}
	return APIKey{s}, nil
}

// apiKeySum returns the CRC-32 (IEEE) of the body in base 62, most significant digit first.
func apiKeySum(body string) string {
	var out [apiKeyChecksumChars]byte
	sum := crc32.ChecksumIEEE([]byte(body))
	for i := apiKeyChecksumChars - 1; i >= 0; i-- {
		out[i] = base62[sum%uint32(len(base62))]
		sum /= uint32(len(base62))
	}
	return string(out[:])
}

// Hash returns the hash under which the key is stored.
func (k APIKey) Hash() APIKeyHash { return sha256.Sum256([]byte(k.s)) }

// Hint returns the environment and the last four characters; of a certificate its name. It may be
// shown, to distinguish keys.
func (k APIKey) Hint() string {
	if name, ok := strings.CutPrefix(k.s, certificatePrefix); ok {
		return name
	}
	if k.s == "" {
		return ""
	}
	return k.s[:strings.LastIndexByte(k.s, '_')+1] + "…" + k.s[len(k.s)-4:]
}

// IsTest reports whether the key is a test key: its environment is test or dev. Test keys work only
// in an installation that is marked as a test installation.
func (k APIKey) IsTest() bool {
	return strings.HasPrefix(k.s, "pl_test_") || strings.HasPrefix(k.s, "pl_dev_")
}

// Reveal returns the key itself.
func (k APIKey) Reveal() string { return k.s }

// Format implements fmt.Formatter.
func (APIKey) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, mask) }
