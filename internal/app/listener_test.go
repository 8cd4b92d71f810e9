package app_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/test/parts"
)

// served is a service whose listeners speak TLS.
type served struct {
	*running
	dir       string
	authority *parts.Authority
}

const (
	firstToken  = "first-token-of-the-admin"
	secondToken = "second-token-of-the-admin"
)

func (s *served) in(name string) string { return filepath.Join(s.dir, name) }

func (s *served) write(t *testing.T, name string, content []byte) {
	t.Helper()
	next := s.in(name + ".new")
	if err := errors.Join(os.WriteFile(next, content, 0o600), os.Rename(next, s.in(name))); err != nil {
		t.Fatal(err)
	}
}

// serveTLS serves without a database, which matters to no test of the listeners.
func serveTLS(t *testing.T) *served {
	t.Helper()
	return serveTLSOn(t, "postgres://p:x@127.0.0.1:1/p?sslmode=disable")
}

func serveTLSOn(t *testing.T, database app.DatabaseURL) *served {
	t.Helper()
	s := &served{dir: t.TempDir(), authority: parts.NewAuthority(t, "authority")}
	s.authority.Write(t, s.in("ca.pem"))
	s.authority.IssueTo(t, s.in("api.pem"), s.in("api.key"), parts.Subject{Hosts: []string{"127.0.0.1"}})
	s.write(t, "token", []byte(firstToken+"\n"))
	var token app.AdminTokenFile
	if err := token.UnmarshalText([]byte(s.in("token"))); err != nil {
		t.Fatal(err)
	}
	s.running = start(t, app.Config{
		DatabaseSettings: app.DatabaseSettings{DatabaseURL: database},
		API: &app.APISettings{Listen: "127.0.0.1:0", APITLSSettings: app.APITLSSettings{
			TLSCert: s.in("api.pem"), TLSKey: s.in("api.key"), TLSClientCA: s.in("ca.pem"),
		}},
		ProcessSettings: app.ProcessSettings{AdminAccessSettings: app.AdminAccessSettings{
			AdminTLSCert: s.in("api.pem"), AdminTLSKey: s.in("api.key"), AdminTLSClientCA: s.in("ca.pem"),
			AdminTokenFile: token,
		}},
	})
	return s
}

// client returns a client that trusts the authorities and opens a connection for each request.
func client(trusted ...*parts.Authority) *http.Client {
	pool := x509.NewCertPool()
	for _, a := range trusted {
		pool.AppendCertsFromPEM(a.PEM())
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}}
}

// withCertificate makes a client show a certificate.
func (s *served) withCertificate(t *testing.T, c *http.Client, subject parts.Subject) *http.Client {
	t.Helper()
	certificate, key := s.authority.Issue(t, subject)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	return c
}

// answer is the response to a GET.
type answer struct {
	status, major int
	tls           tls.ConnectionState
	body          string
}

func fetch(c *http.Client, url, token string) (a answer, err error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return a, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.Do(request)
	if err != nil {
		return a, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	a = answer{status: response.StatusCode, major: response.ProtoMajor, body: string(body)}
	if response.TLS != nil {
		a.tls = *response.TLS
	}
	return a, err
}

// TestService_TLS: the API speaks TLS 1.2 and 1.3 and HTTP/1.1. Older versions, plain HTTP and a
// client certificate that has expired are refused.
func TestService_TLS(t *testing.T) {
	t.Parallel()
	s := serveTLS(t)
	livez := s.URL() + "/livez"
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := client(s.authority)
		c.Transport.(*http.Transport).TLSClientConfig.MaxVersion = version
		got, err := fetch(c, livez, "")
		if err != nil || got.status != http.StatusOK || got.major != 1 || got.tls.Version != version ||
			got.tls.NegotiatedProtocol != "http/1.1" {
			t.Errorf("%s: got %+v, %v; want 200 over HTTP/1.1", tls.VersionName(version), got, err)
		}
	}
	if _, err := fetch(s.withCertificate(t, client(s.authority), parts.Subject{}), livez, ""); err != nil {
		t.Errorf("with a client certificate: %v", err)
	}
	old := client(s.authority)
	config := old.Transport.(*http.Transport).TLSClientConfig
	config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	expired := s.withCertificate(t, client(s.authority), parts.Subject{NotAfter: time.Now().Add(-time.Minute)})
	for name, row := range map[string]struct {
		client *http.Client
		want   string
	}{
		"TLS 1.1":                {old, "protocol version"},
		"an expired certificate": {expired, "expired certificate"},
		"another authority":      {client(parts.NewAuthority(t, "other")), "unknown authority"},
	} {
		if _, err := fetch(row.client, livez, ""); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
	got, err := fetch(client(), strings.Replace(livez, "https:", "http:", 1), "")
	if err != nil || got.status != http.StatusBadRequest {
		t.Errorf("plain HTTP: got %+v, %v; want 400", got, err)
	}
}

// TestService_TLS_Rotation: certificates are replaced under load, at times the certificate before
// its key. No request fails, new connections get the new certificate, and the broken pair is logged
// once each time.
func TestService_TLS_Rotation(t *testing.T) {
	t.Parallel()
	s := serveTLS(t)
	next := parts.NewAuthority(t, "next")
	var mu sync.Mutex
	var failed error
	requests, serials := 0, map[string]bool{}
	ended := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			c := client(s.authority, next)
			for {
				select {
				case <-ended:
					return
				default:
				}
				got, err := fetch(c, s.URL()+"/livez", "")
				mu.Lock()
				requests++
				if err == nil {
					serials[got.tls.PeerCertificates[0].SerialNumber.String()] = true
				} else if failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	const rotations = 3
	for i := range rotations {
		certificate, key := next.Issue(t, parts.Subject{Hosts: []string{"127.0.0.1"}})
		s.write(t, "api.pem", certificate)
		eventually(t, func() string {
			if got := len(s.log.events("file cannot be used, its last good content stays in use")); got <= i {
				return fmt.Sprintf("got %d lines about broken pairs, want %d", got, i+1)
			}
			return ""
		})
		s.write(t, "api.key", key)
		eventually(t, func() string {
			mu.Lock()
			defer mu.Unlock()
			if len(serials) < i+2 {
				return fmt.Sprintf("got %d certificates, want %d", len(serials), i+2)
			}
			return ""
		})
	}
	close(ended)
	load.Wait()
	if failed != nil || len(serials) != rotations+1 {
		t.Errorf("got %v in %d requests and %d certificates, want none and %d", failed, requests, len(serials),
			rotations+1)
	}
}

// TestService_TLS_SlowHandshake: a client that does not finish its handshake is counted, and is cut
// off.
func TestService_TLS_SlowHandshake(t *testing.T) {
	t.Parallel()
	s := serveTLS(t)
	const open = "\npaylatch_connections_open "
	metrics := func() string {
		got, err := fetch(client(s.authority), s.AdminURL()+"/metrics", firstToken)
		if err != nil {
			t.Fatal(err)
		}
		return got.body
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte{0x16, 3, 1}); err != nil { // The beginning of a ClientHello.
		t.Fatal(err)
	}
	eventually(t, func() string {
		if !strings.Contains(metrics(), open+"1\n") {
			return "the connection is not counted"
		}
		return ""
	})
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection is still open")
	}
	eventually(t, func() string {
		if !strings.Contains(metrics(), open+"0\n") {
			return "the connection is still counted"
		}
		return ""
	})
}

// TestService_AdminAuthentication: a request to the admin listener needs a token of the file, or a
// certificate. While tokens change, both are accepted.
func TestService_AdminAuthentication(t *testing.T) {
	t.Parallel()
	s := serveTLS(t)
	certified := s.withCertificate(t, client(s.authority), parts.Subject{})
	status := func(c *http.Client, path, token string) int {
		got, err := fetch(c, s.AdminURL()+path, token)
		if err != nil {
			t.Fatal(err)
		}
		return got.status
	}
	for _, path := range []string{"/metrics", "/livez", "/debug/pprof/", "/debug/pprof/heap"} {
		for _, row := range []struct {
			client *http.Client
			token  string
			want   int
		}{
			{client(s.authority), "", 401},
			{client(s.authority), secondToken, 401},
			{client(s.authority), firstToken, 200},
			{client(s.authority), firstToken + "x", 401},
			{certified, "", 200},
		} {
			if got := status(row.client, path, row.token); got != row.want {
				t.Errorf("%s with token %q: got %d, want %d", path, row.token, got, row.want)
			}
		}
	}
	await := func(token string, want int) {
		eventually(t, func() string {
			if got := status(client(s.authority), "/livez", token); got != want {
				return fmt.Sprintf("%s: got %d, want %d", token, got, want)
			}
			return ""
		})
	}
	s.write(t, "token", []byte(firstToken+"\n"+secondToken+"\n"))
	await(secondToken, 200)
	await(firstToken, 200)
	s.write(t, "token", []byte(secondToken))
	await(firstToken, 401)
	await(secondToken, 200)
}
