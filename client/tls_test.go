package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
	"github.com/paylatch/paylatch/test/parts"
)

// serveTLS serves over TLS, with a certificate of the authority, which also signs those of clients.
func serveTLS(t *testing.T, a *parts.Authority, s *clienttest.Service) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(s.Handler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // It would log the handshakes that are to fail.
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{issue(t, a, parts.Subject{Hosts: []string{"127.0.0.1"}})},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: poolOf(a),
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func poolOf(a *parts.Authority) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM())
	return pool
}

func issue(t *testing.T, a *parts.Authority, s parts.Subject) tls.Certificate {
	t.Helper()
	certificate, key := a.Issue(t, s)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// payload is a payment for the test.
func payload() client.Request {
	return client.Request{
		Amount: 100, Currency: "USD",
		Originator: client.Party{ID: "1", Name: "A"}, Beneficiary: client.Party{ID: "2", Name: "B"},
		Sender:   client.Account{Type: "checking", Number: "1"},
		Receiver: client.Account{Type: "checking", Number: "2"},
	}
}

// TestClient_TLS: a client certificate alone identifies the tenant, and no key is sent. One that
// the server refuses is reported as a request that was not sent, after one attempt, with the
// reason.
func TestClient_TLS(t *testing.T) {
	authority := parts.NewAuthority(t, "authority")
	service := clienttest.New()
	server := serveTLS(t, authority, service)
	for name, row := range map[string]struct {
		subject parts.Subject
		signer  *parts.Authority
		want    string
	}{
		"valid":             {parts.Subject{}, authority, ""},
		"expired":           {parts.Subject{NotAfter: time.Now().Add(-time.Minute)}, authority, "expired certificate"},
		"another authority": {parts.Subject{}, parts.NewAuthority(t, "other"), "certificate"},
	} {
		pair := issue(t, row.signer, row.subject)
		c, err := client.New(client.Config{Servers: []string{server.URL}, TLS: &tls.Config{
			RootCAs: poolOf(authority),
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &pair, nil
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		result, err := c.Create(t.Context(), "key-"+strings.ReplaceAll(name, " ", "-"), payload())
		if row.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if _, ok := errors.AsType[*client.NotSentError](err); !ok || !strings.Contains(err.Error(), row.want) ||
			result.Attempts != 1 {
			t.Errorf("%s: got %v after %d attempts, want a NotSentError with %q", name, err, result.Attempts, row.want)
		}
	}
	requests := service.Requests()
	if len(requests) != 1 || requests[0].Authorization != "" {
		t.Errorf("got %d requests, want one without a key: %+v", len(requests), requests)
	}
}

// TestNew_TLS: something must identify the tenant, and TLS belongs to the client's own transport.
func TestNew_TLS(t *testing.T) {
	servers := []string{"https://127.0.0.1:1"}
	certified := &tls.Config{Certificates: make([]tls.Certificate, 1)}
	for want, cfg := range map[string]client.Config{
		"an API key is needed":     {Servers: servers, TLS: &tls.Config{}},
		"TLS: the HTTP client":     {Servers: servers, APIKey: "k", TLS: certified, HTTPClient: &http.Client{}},
		"API key is visible ASCII": {Servers: servers, APIKey: "é", TLS: certified},
	} {
		if _, err := client.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
