package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/internal/tlsfile"
)

// APITLSSettings are the TLS files of the API. Without a certificate it speaks plain HTTP.
type APITLSSettings struct {
	TLSCert     string `name:"tls-cert" env:"PAYLATCH_TLS_CERT" placeholder:"PATH" help:"The certificate of the API with its chain, in PEM form: the API then speaks TLS only. It is read again when it changes."`
	TLSKey      string `name:"tls-key" env:"PAYLATCH_TLS_KEY" placeholder:"PATH" help:"The key of --tls-cert."`
	TLSClientCA string `name:"tls-client-ca" env:"PAYLATCH_TLS_CLIENT_CA" placeholder:"PATH" help:"Authorities whose client certificates the API accepts. A client may then show one."`
}

// Faults returns what is wrong with the files.
func (s APITLSSettings) Faults() []string { return s.files().faults() }

func (s APITLSSettings) files() listenerFiles {
	return listenerFiles{"", tlsfile.Pair{Cert: s.TLSCert, Key: s.TLSKey}, s.TLSClientCA}
}

// AdminAccessSettings say who may use the admin listener.
type AdminAccessSettings struct {
	AdminToken       AdminToken     `env:"PAYLATCH_ADMIN_TOKEN" placeholder:"SECRET" help:"A bearer token that each request to the admin listener must have. Several are separated by white space."`
	AdminTokenFile   AdminTokenFile `env:"PAYLATCH_ADMIN_TOKEN_FILE" placeholder:"PATH" help:"A file with the token, or with several while they change. It is read again when it changes."`
	AdminTLSCert     string         `name:"admin-tls-cert" env:"PAYLATCH_ADMIN_TLS_CERT" placeholder:"PATH" help:"The certificate of the admin listener, as --tls-cert."`
	AdminTLSKey      string         `name:"admin-tls-key" env:"PAYLATCH_ADMIN_TLS_KEY" placeholder:"PATH" help:"The key of --admin-tls-cert."`
	AdminTLSClientCA string         `name:"admin-tls-client-ca" env:"PAYLATCH_ADMIN_TLS_CLIENT_CA" placeholder:"PATH" help:"Authorities of client certificates that may use the admin listener without a token."`
}

func (s AdminAccessSettings) files() listenerFiles {
	return listenerFiles{"admin-", tlsfile.Pair{Cert: s.AdminTLSCert, Key: s.AdminTLSKey}, s.AdminTLSClientCA}
}

// token returns the secret that holds the tokens.
func (s AdminAccessSettings) token() secretfile.Value {
	return secretfile.Of(secretfile.Text(s.AdminToken), s.AdminTokenFile.File)
}

// Authenticates reports whether a request to the admin listener needs a token or a certificate.
func (s AdminAccessSettings) Authenticates() bool {
	return s.token().IsGiven() || s.AdminTLSClientCA != ""
}

// Tokens returns the tokens that are accepted now.
func (s AdminAccessSettings) Tokens() []string { return strings.Fields(s.token().Current()) }

// Faults returns the faults of the admin listener. Beyond loopback it must authenticate: it shows
// profiles and metrics of all tenants.
func (s ProcessSettings) Faults() []string {
	faults := s.files().faults()
	if !s.Authenticates() && !s.AdminListen.isLoopback() {
		faults = append(faults, fmt.Sprintf("%s: %s can be reached from other machines, and nothing would "+
			"authenticate them: give %s or %s, or listen on 127.0.0.1", settingName("admin-listen"), s.AdminListen,
			settingName("admin-token-file"), settingName("admin-tls-client-ca")))
	}
	return faults
}

// clearToken returns a sentence if the token is sent in clear to other machines.
func (s ProcessSettings) clearToken() string {
	if s.token().IsGiven() && s.AdminTLSCert == "" && !s.AdminListen.isLoopback() {
		return fmt.Sprintf("the admin listener on %s speaks plain HTTP: others on the network can read its token; "+
			"use %s", s.AdminListen, settingName("admin-tls-cert"))
	}
	return ""
}

// isLoopback reports whether only this machine reaches the address. An empty host is not loopback:
// it is every address.
func (a Address) isLoopback() bool {
	host, _, _ := net.SplitHostPort(string(a)) // It was checked.
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// listenerFiles are the TLS files of one listener. The prefix is that of its flags.
type listenerFiles struct {
	prefix   string
	pair     tlsfile.Pair
	clientCA string
}

// open returns the TLS side of the listener; nil without a certificate.
func (f listenerFiles) open(logger *slog.Logger) (*tlsfile.Server, error) {
	if f.pair == (tlsfile.Pair{}) {
		return nil, nil //nolint:nilnil // No TLS is a choice.
	}
	server, err := tlsfile.NewServer(f.pair, f.clientCA)
	if err == nil {
		server.LogTo(logger)
	}
	return server, err
}

func (f listenerFiles) faults() []string {
	cert, key := settingName(f.prefix+"tls-cert"), settingName(f.prefix+"tls-key")
	if f.pair == (tlsfile.Pair{}) {
		if f.clientCA != "" {
			return []string{fmt.Sprintf("%s: needs %s", settingName(f.prefix+"tls-client-ca"), cert)}
		}
		return nil
	}
	if _, err := f.open(slog.New(slog.DiscardHandler)); err != nil {
		return []string{fmt.Sprintf("%s, %s: %v", cert, key, err)}
	}
	return nil
}

// tokenBytesMin makes a token hard to guess: `openssl rand -hex 16` has twice as many.
const tokenBytesMin = 16

// checkTokens returns an error that does not hold the tokens.
func checkTokens(text string) error {
	tokens := strings.Fields(text)
	if len(tokens) == 0 {
		return errors.New("holds no token")
	}
	for _, token := range tokens {
		if len(token) < tokenBytesMin {
			return fmt.Errorf("has a token of %d characters, fewer than %d", len(token), tokenBytesMin)
		}
		if slices.ContainsFunc([]byte(token), func(b byte) bool { return b < 0x21 || b > 0x7e }) {
			return errors.New("has a token with other than visible ASCII characters")
		}
	}
	return nil
}

// AdminToken holds the tokens of the admin listener.
type AdminToken secretfile.Text

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *AdminToken) UnmarshalText(text []byte) error {
	*t = AdminToken(text)
	if len(text) == 0 {
		return nil
	}
	return checkTokens(string(text))
}

// Secret reports whether there is a token.
func (t AdminToken) Secret() bool { return t != "" }

// String hides the tokens.
func (t AdminToken) String() string { return secretfile.Text(t).String() }

// GoString hides the tokens from %#v.
func (t AdminToken) GoString() string { return t.String() }

// MarshalText hides the tokens in JSON and in the log.
func (t AdminToken) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// AdminTokenFile is a file with an AdminToken.
type AdminTokenFile struct{ secretfile.File }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *AdminTokenFile) UnmarshalText(path []byte) (err error) {
	*f = AdminTokenFile{}
	if len(path) > 0 {
		f.File, err = secretfile.Open(string(path), checkTokens)
	}
	return err
}
