package payment

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A client certificate that identifies a tenant is kept among the API keys, so that it has scopes,
// an end, a note, and can be revoked. Its form begins with certificatePrefix. No API key has that
// form, so the name of a certificate is of no use as a key.
const certificatePrefix = "certificate "

// certificateNameBytesMax bounds the name. A SPIFFE id has at most 2048 bytes; names that people
// can compare are shorter.
const certificateNameBytesMax = 512

// certificateKinds are what the name of a certificate begins with.
var certificateKinds = []string{"URI:", "DNS:", "subject:"}

// ErrCertificateName is returned for a text that is no name of a certificate.
var ErrCertificateName = errors.New("a certificate is named by its URI (URI:spiffe://bank.example/payments), its " +
	"DNS name (DNS:client.bank.example) or its subject (subject:CN=client,O=Bank)")

// CertificateKey returns the key that stands for client certificates with this name. Names are
// compared byte by byte.
func CertificateKey(name string) (APIKey, error) {
	for _, kind := range certificateKinds {
		if rest, ok := strings.CutPrefix(name, kind); ok && rest != "" {
			return checkedCertificate(name)
		}
	}
	return APIKey{}, ErrCertificateName
}

func checkedCertificate(name string) (APIKey, error) {
	if len(name) > certificateNameBytesMax {
		return APIKey{}, fmt.Errorf("the name of the certificate has %d bytes, more than %d", len(name),
			certificateNameBytesMax)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return APIKey{}, errors.New("the name of the certificate has a control character, or is not UTF-8")
	}
	return APIKey{certificatePrefix + name}, nil
}

// IsCertificate reports whether the key stands for client certificates.
func (k APIKey) IsCertificate() bool { return strings.HasPrefix(k.s, certificatePrefix) }
