package payment_test

import (
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestCertificateKey: a certificate is named by URI, DNS name or subject. Its name is shown, it is
// no API key that a client could send, and other names are other keys.
func TestCertificateKey(t *testing.T) {
	t.Parallel()
	hashes := map[payment.APIKeyHash]string{}
	for _, name := range []string{
		"URI:spiffe://bank.example/payments", "DNS:client.bank.example", "subject:CN=client,O=Bank",
		"subject:CN=Zoë", "DNS:Client.bank.example", "URI:client.bank.example",
	} {
		key, err := payment.CertificateKey(name)
		if err != nil || !key.IsCertificate() || key.IsTest() || key.Hint() != name {
			t.Errorf("%s: got %v with hint %q, want a certificate with its name", name, err, key.Hint())
		}
		if other, ok := hashes[key.Hash()]; ok {
			t.Errorf("%s has the hash of %s", name, other)
		}
		hashes[key.Hash()] = name
		for _, sent := range []string{name, key.Reveal()} {
			if _, err := payment.ParseAPIKey(sent); err == nil {
				t.Errorf("%q can be sent as an API key", sent)
			}
		}
	}
	for _, name := range []string{
		"", "URI:", "client", "CN=client", "subject:CN=\x00", "subject:CN=\xff",
		"DNS:" + strings.Repeat("x", 510),
	} {
		if _, err := payment.CertificateKey(name); err == nil {
			t.Errorf("%.20q is accepted", name)
		}
	}
	key, err := payment.NewAPIKey("live")
	if err != nil || key.IsCertificate() {
		t.Errorf("got %v and a certificate: %t, of an API key", err, key.IsCertificate())
	}
}
