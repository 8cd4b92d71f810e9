package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"sync/atomic"
	"time"
)

// Issuer is an OAuth token endpoint. It gives JWTs (RFC 7519) to clients that know their secret, by
// the client credentials grant.
type Issuer struct {
	// Name is the iss of its tokens, and Audience their aud.
	Name, Audience string
	// Life is how long a token is valid.
	Life time.Duration
	// Secret returns the secret of a client; empty if there is no such client. A token's subject is
	// the client's name.
	Secret func(client string) string

	key    *rsa.PrivateKey
	issued atomic.Int64
}

// keyID names the issuer's only key.
const keyID = "test"

// NewIssuer returns an issuer with a new key.
func NewIssuer() (*Issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return newIssuer(key), nil
}

// LoadIssuer returns the issuer whose key Key returned.
func LoadIssuer(key []byte) (*Issuer, error) {
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, errors.New("the signing key is not in PEM form")
	}
	parsed, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the signing key: %w", err)
	}
	return newIssuer(parsed), nil
}

// Key returns the signing key in PEM form.
func (i *Issuer) Key() []byte { return encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(i.key)) }

func newIssuer(key *rsa.PrivateKey) *Issuer {
	return &Issuer{Name: "https://issuer.test", Audience: "kafka", Life: time.Hour, key: key}
}

// Issued returns how many tokens were given to clients.
func (i *Issuer) Issued() int64 { return i.issued.Load() }

// Keys returns the public key as a JSON web key set (RFC 7517).
func (i *Issuer) Keys() []byte {
	encoded, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": keyID,
		"n": raw(i.key.N.Bytes()), "e": raw(big.NewInt(int64(i.key.E)).Bytes()),
	}}})
	if err != nil {
		panic(err) // Strings only.
	}
	return encoded
}

// Token returns a token for a subject.
func (i *Issuer) Token(subject string) (string, error) {
	now := time.Now()
	header, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": i.Name, "aud": i.Audience, "sub": subject, "iat": now.Unix(), "exp": now.Add(i.Life).Unix(),
	})
	if err != nil {
		return "", err
	}
	signed := raw(header) + "." + raw(claims)
	hash := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, hash[:])
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed + "." + raw(signature), nil
}

// ServeHTTP implements the token endpoint (RFC 6749, section 4.4).
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	client, secret, ok := r.BasicAuth()
	if want := i.Secret(client); !ok || want == "" || secret != want {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprint(w, `{"error":"invalid_client","error_description":"wrong name or secret"}`)
		return
	}
	token, err := i.Token(client)
	if err != nil || r.PostFormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, `{"error":"unsupported_grant_type"}`)
		return
	}
	i.issued.Add(1)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int(i.Life.Seconds()),
	})
}

func raw(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
