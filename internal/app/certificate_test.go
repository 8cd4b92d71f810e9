package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// identities are two tenants with a key each, and a certificate that is of the first.
type identities struct {
	*served
	store       *store.Store
	certificate int32
	keys        map[string]string
}

const (
	mapped = "spiffe://bank.example/acme"
	other  = "spiffe://bank.example/other"
)

func newIdentities(t *testing.T, scopes payment.Scopes) *identities {
	t.Helper()
	database := app.DatabaseURL(parts.Postgres(t))
	setUp(t, database, parts.Kafka(t))
	i := &identities{served: serveTLSOn(t, database), keys: map[string]string{}}
	var err error
	i.store, err = store.Open(t.Context(), string(database), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.store.Close)
	for _, tenant := range []string{"acme", "beta"} {
		if _, err := i.store.CreateTenant(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		key, err := payment.NewAPIKey("live")
		if err != nil {
			t.Fatal(err)
		}
		i.add(t, tenant, key, payment.AllScopes)
		i.keys[tenant] = key.Reveal()
	}
	key, err := payment.CertificateKey("URI:" + mapped)
	if err != nil {
		t.Fatal(err)
	}
	i.certificate = i.add(t, "acme", key, scopes)
	return i
}

func (i *identities) add(t *testing.T, tenant string, key payment.APIKey, scopes payment.Scopes) int32 {
	t.Helper()
	id, err := i.store.AddAPIKey(t.Context(), tenant, key, store.APIKeyTerms{Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// lookUp looks up a payment that does not exist: a request that is authenticated gets 404. It
// repeats while the database is not connected yet.
func (i *identities) lookUp(t *testing.T, c *http.Client, key string) (got answer) {
	t.Helper()
	eventually(t, func() string {
		var err error
		got, err = fetch(c, i.URL()+"/payments/0198f0c2-7a3e-8c55-8c1f-2f6f3f0b9a11", key)
		if err != nil || got.status == http.StatusServiceUnavailable {
			return fmt.Sprintf("got %d, %v", got.status, err)
		}
		return ""
	})
	return got
}

// showing returns a client that shows a certificate; with nil it shows none.
func (i *identities) showing(t *testing.T, subject *parts.Subject) *http.Client {
	t.Helper()
	c := client(i.authority)
	if subject != nil {
		c = i.withCertificate(t, c, *subject)
	}
	return c
}

func uri(uris ...string) *parts.Subject { return &parts.Subject{CommonName: "x", URIs: uris} }

// TestService_ClientCertificate: a certificate that an operator has mapped identifies the tenant. A
// key and a certificate must be of one tenant. A certificate that is not mapped is no credential,
// and does not disturb a key.
func TestService_ClientCertificate(t *testing.T) {
	t.Parallel()
	i := newIdentities(t, payment.AllScopes)
	for _, row := range []struct {
		name    string
		subject *parts.Subject
		key     string
		want    int
		detail  string
	}{
		{"nothing", nil, "", 401, "no Authorization"},
		{"a key", nil, "acme", 404, ""},
		{"a certificate", uri(mapped), "", 404, ""},
		{"both of one tenant", uri(mapped), "acme", 404, ""},
		{"both of two tenants", uri(mapped), "beta", 401, "different tenants"},
		{"not mapped", uri(other), "", 401, ""},
		{"not mapped, and a key", uri(other), "beta", 404, ""},
		{"the same text in the subject", &parts.Subject{CommonName: mapped}, "", 401, ""},
		{"two URIs", uri(mapped, other), "", 401, "2 URIs"},
		{"two URIs, and a key", uri(mapped, other), "beta", 404, ""},
		{"a DNS name next to it", &parts.Subject{URIs: []string{mapped}, Hosts: []string{"x.example"}}, "", 404, ""},
	} {
		got := i.lookUp(t, i.showing(t, row.subject), i.keys[row.key])
		if got.status != row.want || !strings.Contains(got.body, row.detail) {
			t.Errorf("%s: got %d and %s, want %d and %q", row.name, got.status, got.body, row.want, row.detail)
		}
	}
	if got := i.lookUp(t, i.showing(t, nil), "URI:"+mapped); got.status != http.StatusUnauthorized {
		t.Errorf("got %d for the name of a certificate in place of a key, want 401", got.status)
	}
}

// TestService_ClientCertificate_Terms: scopes hold for certificates, and of a key with one both
// count. A certificate that is revoked is refused, also on a connection that stays open.
func TestService_ClientCertificate_Terms(t *testing.T) {
	t.Parallel()
	i := newIdentities(t, payment.Scopes{Create: true})
	open := i.showing(t, uri(mapped))
	open.Transport.(*http.Transport).DisableKeepAlives = false
	defer open.CloseIdleConnections()
	for name, key := range map[string]string{"alone": "", "with a key": i.keys["acme"]} {
		got := i.lookUp(t, open, key)
		if got.status != http.StatusForbidden || !strings.Contains(got.body, "insufficient_scope") {
			t.Errorf("%s: got %d and %s, want 403", name, got.status, got.body)
		}
	}
	if err := i.store.RevokeAPIKey(t.Context(), "acme", i.certificate); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if got := i.lookUp(t, open, ""); got.status != http.StatusUnauthorized {
			return fmt.Sprintf("got %d, want 401", got.status)
		}
		return ""
	})
	if got := i.lookUp(t, open, i.keys["acme"]); got.status != http.StatusNotFound {
		t.Errorf("got %d for the key, want 404: the certificate is no credential any more", got.status)
	}
}
