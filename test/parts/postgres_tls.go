package parts

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// SecurePostgres is a PostgreSQL of one test that takes TCP connections over TLS only.
//
// Its role paylatch, which owns everything, needs a password. The role of a client certificate
// needs no password and the certificate.
type SecurePostgres struct {
	// Authority signed the certificate of the server, and signs those of clients.
	Authority *Authority
	// CA is the file of its certificate.
	CA string
	// Password is the one of the role paylatch at the start.
	Password string
	host     string
	admin    string // A URL of a superuser over TLS, unverified, whose password stays.
}

// certificateRole is the role that logs in by a client certificate of its name.
const certificateRole = "paylatch_cert"

// hostsslOnly is pg_hba.conf.
const hostsslOnly = `local all all scram-sha-256
hostssl all ` + certificateRole + ` all cert
hostssl all all all scram-sha-256
`

// OwnSecurePostgres starts a PostgreSQL with ssl=on and hostssl only.
func OwnSecurePostgres(t testing.TB) *SecurePostgres {
	t.Helper()
	plain := OwnPostgres(t)
	u, err := url.Parse(plain.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := &SecurePostgres{
		Authority: NewAuthority(t, "database authority"), CA: filepath.Join(t.TempDir(), "ca.pem"),
		Password: "like-nothing-else", host: u.Host, admin: plain.URL,
	}
	s.Authority.Write(t, s.CA)
	s.sql(t, "create role admin superuser login password 'admin'",
		"create role "+certificateRole+" superuser login",
		"alter system set ssl_ca_file = 'authority.pem'", "alter system set ssl_cert_file = 'server.pem'",
		"alter system set ssl_key_file = 'server.key'", "alter system set ssl = on")
	s.put(t, "authority.pem", string(s.Authority.PEM()))
	s.put(t, "pg_hba.conf", hostsslOnly)
	s.Renew(t, s.Authority)
	s.admin = fmt.Sprintf("postgres://admin:admin@%s%s?sslmode=require", u.Host, u.Path)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // A reload takes a moment.
		inClear, secure := execute(t.Context(), plain.URL, "select"), execute(t.Context(), s.admin, "select")
		if inClear != nil && secure == nil {
			// A container's first password is the name of the user, which messages hold.
			s.sql(t, "alter role "+u.User.Username()+" password '"+s.Password+"'")
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("got %v in clear and %v over TLS, want only TLS to work", inClear, secure)
		}
	}
}

// Renew gives the server a new certificate, signed by the authority. Connections that are open
// stay.
func (s *SecurePostgres) Renew(t testing.TB, by *Authority) {
	t.Helper()
	certificate, key := by.Issue(t, Subject{Hosts: []string{"127.0.0.1", "db.example"}})
	s.put(t, "server.pem", string(certificate))
	s.put(t, "server.key", string(key))
	s.sql(t, "select pg_reload_conf()")
}

// SetPassword changes the password of the role paylatch.
func (s *SecurePostgres) SetPassword(t testing.TB, password string) {
	t.Helper()
	s.sql(t, "alter role paylatch password '"+password+"'")
}

// sql executes statements, each over a connection of its own.
func (s *SecurePostgres) sql(t testing.TB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if err := execute(t.Context(), s.admin, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// put writes a file in the server's data directory, as its user, who alone may read it.
func (s *SecurePostgres) put(t testing.TB, name, content string) {
	t.Helper()
	s.sql(t, fmt.Sprintf("copy (select unnest(string_to_array($$%s$$, E'\\n'))) to program "+
		"'umask 077 && cat > %s.new && mv %s.new %s'", strings.TrimSuffix(content, "\n"), name, name, name))
}

// URL returns the URL of the server for the role paylatch, with verify-full and without a password.
// The parameters, such as "sslmode=require", override it.
func (s *SecurePostgres) URL(parameters ...string) string {
	return s.url("paylatch", s.host, parameters)
}

// URLByName is URL with a name in place of the address, which the certificate does not hold.
func (s *SecurePostgres) URLByName() string {
	_, port, _ := net.SplitHostPort(s.host)
	return s.url("paylatch", net.JoinHostPort("localhost", port), nil)
}

// URLOfCertificate returns the URL for the role that logs in by its certificate, which is written
// to the directory.
func (s *SecurePostgres) URLOfCertificate(t testing.TB, dir string, notAfter time.Time) string {
	t.Helper()
	certificate, key := filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	s.Authority.IssueTo(t, certificate, key, Subject{CommonName: certificateRole, NotAfter: notAfter})
	return s.url(certificateRole, s.host, []string{"sslcert=" + certificate, "sslkey=" + key})
}

func (s *SecurePostgres) url(role, host string, parameters []string) string {
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.CA}}
	for _, p := range parameters {
		name, value, _ := strings.Cut(p, "=")
		query.Set(name, value)
	}
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: host, Path: "/paylatch", RawQuery: query.Encode()}
	if admin, err := url.Parse(s.admin); err == nil {
		u.Path = admin.Path
	}
	return u.String()
}
