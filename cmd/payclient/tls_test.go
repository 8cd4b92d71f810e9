package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/client/clienttest"
	"github.com/paylatch/paylatch/test/parts"
)

// TestRun_TLS: payclient trusts the authorities of a file, and shows a client certificate, which is
// enough without an API key.
func TestRun_TLS(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	authority := parts.NewAuthority(t, "authority")
	authority.Write(t, in("ca.pem"))
	authority.IssueTo(t, in("client.pem"), in("client.key"), parts.Subject{CommonName: "client"})
	certificate, key := authority.Issue(t, parts.Subject{Hosts: []string{"127.0.0.1"}})
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority.PEM())
	service := clienttest.New()
	server := httptest.NewUnstartedServer(service.Handler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // It would log the handshakes that are to fail.
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	files := []string{"--server-ca", in("ca.pem"), "--client-cert", in("client.pem"), "--client-key", in("client.key")}
	for i, row := range []struct {
		env  map[string]string
		args []string
		code int
		want string
	}{
		{nil, files, exitOK, `"id"`},
		{map[string]string{
			"PAYLATCH_SERVER_CA": in("ca.pem"), "PAYLATCH_CLIENT_CERT": in("client.pem"),
			"PAYLATCH_CLIENT_KEY": in("client.key"),
		}, nil, exitOK, `"id"`},
		{nil, files[:2], exitUsage, "an API key is needed"},
		{map[string]string{"PAYLATCH_API_KEY": "pl_test_1"}, files[:2], exitOK, `"id"`},
		{map[string]string{"PAYLATCH_API_KEY": "pl_test_1"}, nil, exitFailed, "unknown authority"},
		{nil, files[:4], exitUsage, "a certificate needs its key"},
		{nil, []string{"--server-ca", in("absent")}, exitUsage, "does not exist"},
	} {
		var out bytes.Buffer
		args := append([]string{"--server", server.URL}, row.args...)
		args = append(args, "create", "--json=-", "--idempotency-key=K")
		code := run(t.Context(), args, func(k string) string { return row.env[k] }, strings.NewReader(body), &out, &out)
		if code != row.code || !strings.Contains(out.String(), row.want) {
			t.Errorf("%d: got %d and %s, want %d and %q", i, code, &out, row.code, row.want)
		}
	}
}
