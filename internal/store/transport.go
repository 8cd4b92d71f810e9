package store

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Transport says how connections to a database are protected.
type Transport struct {
	// SSLMode is the one in effect, by the names of libpq: require with a root certificate is
	// verify-ca.
	SSLMode string
	// Unverified are the hosts on other machines whose certificate and name are not both checked.
	// Another machine could take their place and read all that is sent, the password included.
	Unverified []string
}

// sslVerifyFull is the one mode that checks that the server is the one that the URL names.
const sslVerifyFull = "verify-full"

// TransportOf returns the transport of a URL.
func TransportOf(url string) (Transport, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return Transport{}, urlFault(err)
	}
	t := Transport{SSLMode: sslMode(config)}
	if t.SSLMode == sslVerifyFull {
		return t, nil
	}
	for _, h := range hostsOf(config) {
		if !isLocal(h.name) && !slices.Contains(t.Unverified, h.name) {
			t.Unverified = append(t.Unverified, h.name)
		}
	}
	return t, nil
}

// sslMode returns the mode that a configuration has. All hosts of a URL have the same, but a host
// that is a Unix socket has none.
func sslMode(config *pgx.ConnConfig) string {
	var secured *tls.Config
	plain := false
	for _, c := range transportsOf(config) {
		if c == nil {
			plain = true
		} else {
			secured = c
		}
	}
	switch {
	case secured == nil:
		return "disable"
	case plain && config.TLSConfig == nil:
		return "allow"
	case plain:
		return "prefer"
	case !secured.InsecureSkipVerify:
		return sslVerifyFull
	case secured.VerifyPeerCertificate != nil:
		return "verify-ca"
	}
	return "require"
}

// transportsOf returns the TLS configurations of the attempts to reach hosts over TCP; nil is clear
// text.
func transportsOf(config *pgx.ConnConfig) (all []*tls.Config) {
	if !isSocket(config.Host) {
		all = append(all, config.TLSConfig)
	}
	for _, f := range config.Fallbacks {
		if !isSocket(f.Host) {
			all = append(all, f.TLSConfig)
		}
	}
	return all
}

// isSocket reports whether a host is the directory of a Unix socket.
func isSocket(host string) bool { return strings.HasPrefix(host, "/") }

// isLocal reports whether a connection to the host stays on this machine.
func isLocal(host string) bool {
	return isSocket(host) || host == "localhost" || net.ParseIP(host).IsLoopback()
}
