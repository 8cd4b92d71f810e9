package tlsfile_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/tlsfile"
	"github.com/paylatch/paylatch/test/parts"
)

// files are those of one server and one client, both signed by one authority.
type files struct {
	authority      *parts.Authority
	ca             string
	server, client tlsfile.Pair
}

func newFiles(t *testing.T) files {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	f := files{
		authority: parts.NewAuthority(t, "ca"), ca: in("ca.pem"),
		server: tlsfile.Pair{Cert: in("server.pem"), Key: in("server.key")},
		client: tlsfile.Pair{Cert: in("client.pem"), Key: in("client.key")},
	}
	f.authority.Write(t, f.ca)
	f.authority.IssueTo(t, f.server.Cert, f.server.Key, parts.Subject{Hosts: []string{"127.0.0.1"}})
	f.authority.IssueTo(t, f.client.Cert, f.client.Key, parts.Subject{CommonName: "client"})
	return f
}

// handshake makes one connection, and returns what the server sees of the client, and each side's
// error.
func handshake(t *testing.T, server, client *tls.Config) (seen tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var serving sync.WaitGroup
	serving.Go(func() {
		var conn net.Conn
		conn, serverErr = l.Accept()
		if serverErr != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		serverErr = conn.(*tls.Conn).Handshake()
		if serverErr == nil {
			seen = conn.(*tls.Conn).ConnectionState()
			_, _ = conn.Write([]byte("."))
		}
	})
	conn, clientErr := tls.Dial("tcp", l.Addr().String(), client)
	if clientErr == nil {
		// With TLS 1.3 the client learns by reading that its certificate was refused.
		_, clientErr = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	serving.Wait()
	return seen, serverErr, clientErr
}

// eventually waits until the files have been read again: at most once a second.
func eventually(t *testing.T, fault func() string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		text := fault()
		if text == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatal(text)
		}
	}
}

func opened(t *testing.T, f files) (server *tlsfile.Server, client *tlsfile.Client) {
	t.Helper()
	server, err := tlsfile.NewServer(f.server, f.ca)
	if err != nil {
		t.Fatal(err)
	}
	client, err = tlsfile.NewClient(f.ca, f.client)
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

// TestHandshake: both sides know each other, by TLS 1.2 or newer. A client without a certificate is
// served, too; one of another authority, one that has expired, and TLS 1.1 are refused.
func TestHandshake(t *testing.T) {
	f := newFiles(t)
	server, client := opened(t, f)
	seen, serverErr, clientErr := handshake(t, server.Config(), client.Config())
	if serverErr != nil || clientErr != nil || seen.PeerCertificates[0].Subject.CommonName != "client" {
		t.Fatalf("got %v and %v, want a connection with a client certificate", serverErr, clientErr)
	}
	plain := client.Config()
	plain.GetClientCertificate = nil
	seen, serverErr, _ = handshake(t, server.Config(), plain)
	if serverErr != nil || len(seen.PeerCertificates) > 0 {
		t.Errorf("got %v, want a connection without a certificate", serverErr)
	}
	old := client.Config()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	_, serverErr, clientErr = handshake(t, server.Config(), old)
	if serverErr == nil || clientErr == nil {
		t.Errorf("got %v and %v, want TLS 1.1 refused", serverErr, clientErr)
	}
	for signer, subject := range map[*parts.Authority]parts.Subject{
		parts.NewAuthority(t, "other"): {}, f.authority: {NotAfter: time.Now().Add(-time.Minute)},
	} {
		signer.IssueTo(t, f.client.Cert, f.client.Key, subject)
		refused, err := tlsfile.NewClient(f.ca, f.client)
		if err != nil {
			t.Fatal(err)
		}
		_, serverErr, clientErr = handshake(t, server.Config(), refused.Config())
		if serverErr == nil || clientErr == nil {
			t.Errorf("%v: got %v and %v, want it refused", subject, serverErr, clientErr)
		}
	}
}

// TestRotation: certificates, keys and authorities that are replaced are used by new connections.
// While a file is broken the old one stays, and this is logged once.
func TestRotation(t *testing.T) {
	f := newFiles(t)
	server, client := opened(t, f)
	var log bytes.Buffer
	server.LogTo(slog.New(slog.NewTextHandler(&log, nil)))
	before, err := os.ReadFile(f.server.Cert)
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		config := client.Config()
		var got string
		config.VerifyConnection = func(s tls.ConnectionState) error {
			got = s.PeerCertificates[0].SerialNumber.String()
			return nil
		}
		if _, serverErr, clientErr := handshake(t, server.Config(), config); serverErr != nil || clientErr != nil {
			t.Fatalf("got %v and %v, want no failure while files change", serverErr, clientErr)
		}
		return got
	}
	first := serial()

	// The new certificate is there and its key is not: the old pair stays.
	other := parts.NewAuthority(t, "next")
	certificate, key := other.Issue(t, parts.Subject{Hosts: []string{"127.0.0.1"}})
	if err := os.WriteFile(f.server.Cert, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if got := serial(); got != first {
			t.Fatalf("got certificate %s, want %s until the pair is whole", got, first)
		}
		if !strings.Contains(log.String(), f.server.Key) {
			return "the broken pair was not logged"
		}
		return ""
	})
	// Clients trust both authorities before the server changes.
	if err := os.WriteFile(f.ca, append(f.authority.PEM(), other.PEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(append(f.authority.PEM(), other.PEM()...))
		if !client.Config().RootCAs.Equal(roots) {
			return "the client does not trust the next authority"
		}
		return ""
	})
	if err := os.WriteFile(f.server.Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if serial() == first {
			return "the new certificate is not used"
		}
		return ""
	})
	text := log.String()
	if got := strings.Count(text, "cannot be used"); got != 1 || strings.Contains(text, string(before)) {
		t.Errorf("got %d lines about a broken pair, want 1: %s", got, text)
	}
}

// TestUnusable: the error names the file.
func TestUnusable(t *testing.T) {
	f := newFiles(t)
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		ca   string
		pair tlsfile.Pair
		want string
	}{
		"no key":       {f.ca, tlsfile.Pair{Cert: f.server.Cert}, "needs its key"},
		"other key":    {f.ca, tlsfile.Pair{Cert: f.server.Cert, Key: f.client.Key}, f.client.Key},
		"absent":       {f.ca, tlsfile.Pair{Cert: f.server.Cert, Key: "/absent"}, "file /absent: does not exist"},
		"broken":       {f.ca, tlsfile.Pair{Cert: broken, Key: f.server.Key}, broken},
		"no authority": {broken, f.server, "file " + broken + ": holds no certificate"},
	} {
		_, serverErr := tlsfile.NewServer(row.pair, row.ca)
		_, clientErr := tlsfile.NewClient(row.ca, row.pair)
		for _, err := range []error{serverErr, clientErr} {
			if text := fmt.Sprint(err); !strings.Contains(text, row.want) || strings.Contains(text, "sesame") {
				t.Errorf("%s: got %v, want %q", name, err, row.want)
			}
		}
	}
	if _, err := tlsfile.NewServer(tlsfile.Pair{}, f.ca); err == nil {
		t.Error("a server without a certificate was made")
	}
}
