package parts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"testing"
	"time"
)

// Authority signs certificates for tests.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Subject says what a certificate is for.
type Subject struct {
	CommonName string
	// Hosts are names and addresses.
	Hosts []string
	URIs  []string
	// NotAfter is an hour from now if it is zero.
	NotAfter time.Time
}

// NewAuthority returns a new authority.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	template := unsigned(Subject{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	key := newKey(t)
	return &Authority{certificate: sign(t, template, template, key, key), key: key}
}

// PEM returns the certificate of the authority.
func (a *Authority) PEM() []byte { return certificatePEM(a.certificate) }

// Write writes the certificate of the authority to a file.
func (a *Authority) Write(t testing.TB, path string) {
	t.Helper()
	writeFile(t, path, a.PEM())
}

// Issue returns a certificate and its key in PEM form.
func (a *Authority) Issue(t testing.TB, s Subject) (certificate, key []byte) {
	t.Helper()
	own := newKey(t)
	encoded, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	signed := sign(t, unsigned(s), a.certificate, own, a.key)
	return certificatePEM(signed), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// IssueTo writes a certificate and its key to two files, the certificate first.
func (a *Authority) IssueTo(t testing.TB, certificate, key string, s Subject) {
	t.Helper()
	c, k := a.Issue(t, s)
	writeFile(t, certificate, c)
	writeFile(t, key, k)
}

// unsigned returns an unsigned certificate that serves servers and clients.
func unsigned(s Subject) *x509.Certificate {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: s.CommonName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: s.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	for _, host := range s.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	for _, text := range s.URIs {
		if uri, err := url.Parse(text); err == nil {
			c.URIs = append(c.URIs, uri)
		}
	}
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, c, parent *x509.Certificate, own, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &own.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// writeFile replaces a file at once, as a careful tool does. PostgreSQL refuses a key that others
// may read.
func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
