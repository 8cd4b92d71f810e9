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

// An API key is pl_<env>_<random><checksum>: 32 random characters of base 62 (190 bits) and the CRC-32 of all before it in 6. The
// checksum lets a mistyped key be refused without asking the database, and lets scanners find leaked keys with few false alarms.
const (
	apiKeyRandom   = 32
	apiKeyChecksum = 6
	base62         = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// apiKeyForm tells whether s is pl_, 1 to 16 of a-z and 0-9, an underscore, and 38 of base 62. By hand, since each request asks.
func apiKeyForm(s string) bool {
	rest, ok := strings.CutPrefix(s, "pl_")
	env, secret, found := strings.Cut(rest, "_")
	if !ok || !found || len(env) < 1 || len(env) > 16 || len(secret) != apiKeyRandom+apiKeyChecksum {
		return false
	}
	for i := range len(env) {
		if c := env[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
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

// APIKey is an API key as its owner holds it. It masks itself when printed; Reveal shows it, once, to its owner.
type APIKey struct{ s string }

// APIKeyHash is what is stored of a key: its SHA-256. A key has too much entropy to be guessed from it, so no slow hash is needed.
type APIKeyHash [sha256.Size]byte

// NewAPIKey makes a random key for an environment (live, test, dev: what the name says is up to the operator).
func NewAPIKey(env string) (APIKey, error) {
	random := make([]byte, apiKeyRandom)
	for i := range random {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(base62))))
		if err != nil {
			return APIKey{}, fmt.Errorf("random bits for an API key: %w", err)
		}
		random[i] = base62[n.Int64()]
	}
	return APIKeyOf(env, string(random))
}

// APIKeyOf makes the key with the given random part; paylatch-dev uses it for a key that is the same on every machine.
func APIKeyOf(env, random string) (APIKey, error) {
	body := "pl_" + env + "_" + random
	return ParseAPIKey(body + apiKeySum(body))
}

// ParseAPIKey checks form and checksum.
func ParseAPIKey(s string) (APIKey, error) {
	if !apiKeyForm(s) {
		return APIKey{}, errAPIKey
	}
	body, sum := s[:len(s)-apiKeyChecksum], s[len(s)-apiKeyChecksum:]
	if apiKeySum(body) != sum {
		return APIKey{}, errAPIKey
	}
	return APIKey{s}, nil
}

// apiKeySum writes the CRC-32 (IEEE) of the body in base 62, most significant digit first.
func apiKeySum(body string) string {
	var out [apiKeyChecksum]byte
	sum := crc32.ChecksumIEEE([]byte(body))
	for i := apiKeyChecksum - 1; i >= 0; i-- {
		out[i] = base62[sum%uint32(len(base62))]
		sum /= uint32(len(base62))
	}
	return string(out[:])
}

// Hash returns what is stored of the key.
func (k APIKey) Hash() APIKeyHash { return sha256.Sum256([]byte(k.s)) }

// Hint returns what may be shown of the key later, to tell one from another: the environment and the last four characters.
func (k APIKey) Hint() string {
	if k.s == "" {
		return ""
	}
	return k.s[:strings.LastIndexByte(k.s, '_')+1] + "…" + k.s[len(k.s)-4:]
}

// Reveal returns the key itself.
func (k APIKey) Reveal() string { return k.s }

// Format implements fmt.Formatter.
func (APIKey) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, mask) }
