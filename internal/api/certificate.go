package api

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/paylatch/paylatch/internal/payment"
)

// identify returns what the credentials of a request give access to: those of an API key, of a
// client certificate, or of both, which must agree. It sets the key of the exchange.
//
// A certificate that no operator has mapped to a tenant is no credential. A mesh may give one to
// each client; the key identifies the tenant then.
func (s *Server) identify(ctx context.Context, x *exchange) (payment.Access, error) {
	certificate, fault := certificateOf(x.r)
	values := x.r.Header.Values("Authorization")
	switch {
	case len(values) == 0 && fault != "":
		return payment.Access{}, refuse("unauthorized", "%s", fault)
	case len(values) == 0 && certificate.IsCertificate():
		x.key = certificate
		return s.access(ctx, certificate)
	}
	key, err := apiKey(values)
	if err != nil {
		return payment.Access{}, err
	}
	x.key = key
	access, err := s.access(ctx, key)
	if err != nil || !certificate.IsCertificate() {
		return access, err
	}
	return s.agreed(ctx, access, certificate)
}

// agreed returns what both a key, which has the given access, and a certificate allow.
func (s *Server) agreed(ctx context.Context, key payment.Access, certificate payment.APIKey) (payment.Access, error) {
	if s.unmapped.has(certificate) {
		return key, nil
	}
	other, err := s.access(ctx, certificate)
	switch {
	case errors.Is(err, payment.ErrUnauthorized):
		s.unmapped.add(certificate)
		return key, nil
	case err != nil:
		return payment.Access{}, err
	case other.Tenant.ID != key.Tenant.ID:
		return payment.Access{}, refuse("unauthorized",
			"the API key and the client certificate are of different tenants")
	}
	key.Scopes.Create = key.Scopes.Create && other.Scopes.Create
	key.Scopes.Read = key.Scopes.Read && other.Scopes.Read
	return key, nil
}

// certificateOf returns the key that stands for the client certificate. It is zero if the client
// has shown none, or one that identifies no client; fault says why. TLS has verified the
// certificate when the connection began.
func certificateOf(r *http.Request) (key payment.APIKey, fault string) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return key, ""
	}
	leaf := r.TLS.PeerCertificates[0]
	if !time.Now().Before(leaf.NotAfter) {
		return key, "the client certificate has expired since the connection began"
	}
	name := certificateName(leaf)
	if name == "" {
		return key, fmt.Sprintf("the client certificate has %d URIs and %d DNS names: "+
			"exactly one must identify the client", len(leaf.URIs), len(leaf.DNSNames))
	}
	key, err := payment.CertificateKey(name)
	if err != nil {
		return key, "the client certificate: " + err.Error()
	}
	return key, ""
}

// certificateName returns the URI of a certificate, or else the DNS name, or else the subject. Of
// several URIs or DNS names it returns none: an operator may have meant another one.
func certificateName(c *x509.Certificate) string {
	switch {
	case len(c.URIs) == 1:
		return "URI:" + c.URIs[0].String()
	case len(c.URIs) == 0 && len(c.DNSNames) == 1:
		return "DNS:" + c.DNSNames[0]
	case len(c.URIs) == 0 && len(c.DNSNames) == 0 && c.Subject.String() != "" && !repeats(c.Subject.Names):
		return "subject:" + c.Subject.String()
	}
	return ""
}

// repeats reports whether a subject has several common names or serial numbers. Its text would hold
// the last of them only.
func repeats(names []pkix.AttributeTypeAndValue) bool {
	seen := map[string]int{}
	for _, n := range names {
		seen[n.Type.String()]++
	}
	const commonName, serialNumber = "2.5.4.3", "2.5.4.5"
	return seen[commonName] > 1 || seen[serialNumber] > 1
}

const (
	// unmappedMax bounds the certificates that are remembered: about 100 kB.
	unmappedMax = 1024
	// unmappedFor is how long one is remembered, well within the 5 s in which a change must be in
	// force.
	unmappedFor = time.Second
)

// unmapped remembers certificates that are of no tenant, which clients show together with a key.
// Without it each such request would wait for a query. Safe for concurrent use.
type unmapped struct {
	until *lru.Cache[payment.APIKeyHash, time.Time]
}

func newUnmapped() unmapped {
	until, err := lru.New[payment.APIKeyHash, time.Time](unmappedMax)
	if err != nil {
		panic(err) // Only for a size below 1.
	}
	return unmapped{until}
}

func (u unmapped) has(certificate payment.APIKey) bool {
	until, ok := u.until.Get(certificate.Hash())
	return ok && time.Now().Before(until)
}

func (u unmapped) add(certificate payment.APIKey) {
	u.until.Add(certificate.Hash(), time.Now().Add(unmappedFor))
}
