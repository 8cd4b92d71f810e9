// Package tlsfile makes TLS configurations from PEM files and follows the files when they change.
//
// A new connection uses the files as they are, at most a second old. Files that cannot be used,
// such as a certificate that was written before its key, leave the last good ones in use. This is
// logged once for each cause.
package tlsfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/paylatch/paylatch/internal/secretfile"
)

// bytesMax bounds a PEM file. The bundle of a public trust store has 250 kB.
const bytesMax = 1 << 20

// Pair names the files of a certificate and its key. The zero Pair is none.
type Pair struct{ Cert, Key string }

// contents are those of the files that a configuration is made of.
type contents struct{ ca, cert, key []byte }

// read reads the files that are named.
func read(ca string, pair Pair) (c contents, err error) {
	for _, file := range []struct {
		path string
		to   *[]byte
	}{{ca, &c.ca}, {pair.Cert, &c.cert}, {pair.Key, &c.key}} {
		if file.path == "" {
			continue
		}
		*file.to, err = secretfile.Read(file.path, bytesMax)
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c contents) equal(other contents) bool {
	return bytes.Equal(c.ca, other.ca) && bytes.Equal(c.cert, other.cert) && bytes.Equal(c.key, other.key)
}

// pool returns the authorities in a file; nil without a file.
func (c contents) pool(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // No pool is the pool of the system.
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.ca) {
		return nil, fmt.Errorf("file %s: holds no certificate in PEM form", path)
	}
	return pool, nil
}

// certificates returns the certificate with its key; none without a file.
func (c contents) certificates(pair Pair) ([]tls.Certificate, error) {
	if pair == (Pair{}) {
		return nil, nil
	}
	certificate, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", pair.Cert, pair.Key, err)
	}
	return []tls.Certificate{certificate}, nil
}

// ErrHalfPair is the error of a certificate without a key, or of a key without a certificate.
var ErrHalfPair = errors.New("a certificate needs its key, and a key its certificate")

// follow returns a configuration that is made again when a file changes.
func follow(ca string, pair Pair, build func(*x509.CertPool, []tls.Certificate) *tls.Config) (
	*secretfile.Watched[*tls.Config], error,
) {
	if (pair.Cert == "") != (pair.Key == "") {
		return nil, ErrHalfPair
	}
	var last contents
	var config *tls.Config
	return secretfile.Watch("TLS "+pair.Cert+" "+ca, func() (*tls.Config, error) {
		now, err := read(ca, pair)
		if err != nil {
			return nil, err
		}
		if config != nil && now.equal(last) {
			return config, nil
		}
		pool, err := now.pool(ca)
		if err != nil {
			return nil, err
		}
		certificates, err := now.certificates(pair)
		if err != nil {
			return nil, err
		}
		last, config = now, build(pool, certificates)
		return config, nil
	})
}
