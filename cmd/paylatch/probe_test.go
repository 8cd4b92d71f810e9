package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// TestProbe_Admin: probe speaks TLS if the listener does, and has the credentials of the admin
// listener. It needs no file of the listener's certificate, which may be broken, and sends no
// credential to the API.
func TestProbe_Admin(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	authority := parts.NewAuthority(t, "clients")
	authority.IssueTo(t, in("client.pem"), in("client.key"), parts.Subject{CommonName: "probe"})
	if err := os.WriteFile(in("token"), []byte("first-token-of-the-admin\nsecond\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer first-token-of-the-admin" && len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(authority.PEM())
	admin.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: clients}
	admin.StartTLS()
	t.Cleanup(admin.Close)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(api.Close)
	t.Setenv("PAYLATCH_LISTEN", strings.TrimPrefix(api.URL, "http://"))
	t.Setenv("PAYLATCH_ADMIN_LISTEN", strings.TrimPrefix(admin.URL, "https://"))
	t.Setenv("PAYLATCH_ADMIN_TLS_CERT", in("absent"))
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"sender"}, 1, "401"},
		{[]string{"sender", "--admin-token-file", in("token")}, 0, ""},
		{[]string{"sender", "--admin-token", "first-token-of-the-admin"}, 0, "warning"},
		{[]string{"sender", "--admin-token-file", in("absent")}, 1, "does not exist"},
		{[]string{"sender", "--probe-cert", in("client.pem"), "--probe-key", in("client.key")}, 0, ""},
		{[]string{"sender", "--probe-cert", in("client.pem")}, 1, "needs its key"},
		{[]string{"api", "--admin-token-file", in("token")}, 0, ""},
		{[]string{"api", "--tls-cert", in("absent")}, 1, "HTTP response to HTTPS client"},
	} {
		code, _, stderr := runCommand(t, append([]string{"probe"}, row.args...)...)
		if code != row.code || !strings.Contains(stderr, row.want) {
			t.Errorf("%q: got %d and %s, want %d and %q", row.args, code, stderr, row.code, row.want)
		}
	}
}
