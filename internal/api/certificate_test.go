package api

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// TestCertificateName: a subject with two common names identifies no tenant: its text holds only
// the last one.
func TestCertificateName(t *testing.T) {
	t.Parallel()
	commonName := asn1.ObjectIdentifier{2, 5, 4, 3}
	subject := func(names ...string) *x509.Certificate {
		var sequence pkix.RDNSequence
		for _, name := range names {
			sequence = append(sequence, pkix.RelativeDistinguishedNameSET{{Type: commonName, Value: name}})
		}
		c := &x509.Certificate{}
		c.Subject.FillFromRDNSequence(&sequence)
		return c
	}
	if got := certificateName(subject("client-a")); got != "subject:CN=client-a" {
		t.Errorf("one common name: got %q, want subject:CN=client-a", got)
	}
	if got := certificateName(subject("attacker", "client-a")); got != "" {
		t.Errorf("two common names: got %q, want none", got)
	}
}
