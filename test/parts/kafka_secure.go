package parts

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/test/pki"
)

// The ways in which clients of a SecureBroker prove who they are.
const (
	OnlyTLS   = "TLS"
	MutualTLS = "mTLS"
)

// Secure is what a SecureBroker's clients are known by.
const (
	SecureUser   = "paylatch"
	SecureSecret = "sesame-open"
	// SecureGuest is a client of the issuer, with the same secret and without rights.
	SecureGuest = "guest"
	secureAdmin = "admin"
)

// SecureBroker is a broker with a listener for each way to connect, all with TLS. kfake has no
// OAUTHBEARER.
type SecureBroker struct {
	CA *pki.CA
	// Issuer gives tokens; nil with kfake.
	Issuer *pki.Issuer

	addresses map[string]string
	tokenURL  string
	password  string
	// serving is what kfake's listener with client certificates uses; nil in a container.
	serving atomic.Pointer[tls.Config]
	// admin has all rights; nil with kfake.
	admin     *kadm.Client
	container testcontainers.Container
}

// SecureKafka starts a broker whose certificates are of an authority of its own.
func SecureKafka(t testing.TB) *SecureBroker {
	t.Helper()
	ca, err := pki.NewCA("test CA")
	if err != nil {
		t.Fatal(err)
	}
	b := &SecureBroker{CA: ca, addresses: map[string]string{}, password: SecureSecret}
	if InDocker(t) {
		b.startContainer(t)
	} else {
		b.startFakes(t)
	}
	return b
}

// Ways returns the ways to connect, in a fixed order.
func (b *SecureBroker) Ways() (ways []string) {
	for _, way := range []string{
		OnlyTLS, MutualTLS, string(brokers.Plain), string(brokers.Scram256), string(brokers.Scram512),
		string(brokers.OAuthBearer),
	} {
		if b.addresses[way] != "" {
			ways = append(ways, way)
		}
	}
	return ways
}

// Settings returns the settings of a client. Its files are in a directory of the test.
func (b *SecureBroker) Settings(t testing.TB, way string) brokers.Settings {
	t.Helper()
	dir := t.TempDir()
	s := brokers.Settings{
		KafkaBrokers: brokers.Addresses{b.addresses[way]}, KafkaTLS: "on",
		KafkaTLSCA: WriteFile(t, dir, "ca.pem", b.CA.PEM),
	}
	switch way {
	case OnlyTLS:
	case MutualTLS:
		pair := b.Issue(t, time.Now().Add(time.Hour))
		s.KafkaTLSCert = WriteFile(t, dir, "cert.pem", pair.Certificate)
		s.KafkaTLSKey = WriteFile(t, dir, "key.pem", pair.Key)
	case string(brokers.OAuthBearer):
		s.KafkaSASLMechanism, s.KafkaOAuthTokenURL = brokers.OAuthBearer, brokers.TokenURL(b.tokenURL)
		s.KafkaOAuthClientID, s.KafkaOAuthClientSecret = SecureUser, SecureSecret
	default:
		s.KafkaSASLMechanism, s.KafkaSASLUsername = brokers.Mechanism(way), SecureUser
		file, err := secretfile.Open(WriteFile(t, dir, "password", []byte(b.password+"\n")), nil)
		if err != nil {
			t.Fatal(err)
		}
		s.KafkaSASLPasswordFile = file
	}
	return s
}

// Issue returns a certificate of the client.
func (b *SecureBroker) Issue(t testing.TB, until time.Time) pki.Pair {
	t.Helper()
	pair, err := b.CA.Issue(SecureUser, until)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// WriteFile writes a file as a rotation does: it is complete at once. It returns its path.
func WriteFile(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve makes kfake use a new certificate of the present authority, and trust that authority.
func (b *SecureBroker) serve(t testing.TB) {
	t.Helper()
	pair, err := b.CA.Issue("broker", time.Now().Add(time.Hour), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b.CA.PEM)
	b.serving.Store(&tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientCAs: pool, MinVersion: tls.VersionTLS12,
	})
}

// ReplaceCA replaces the authority of the listener with client certificates, and its certificate.
// From then on it takes and shows only certificates of the new one. Connections that are open stay.
func (b *SecureBroker) ReplaceCA(t testing.TB) {
	t.Helper()
	ca, err := pki.NewCA("next CA")
	if err != nil {
		t.Fatal(err)
	}
	b.CA = ca
	if b.container == nil {
		b.serve(t)
		return
	}
	b.reconfigure(t)
}

// Environ returns settings as the variables of a process.
func Environ(s brokers.Settings) map[string]string {
	env := map[string]string{"PAYLATCH_KAFKA_BROKERS": strings.Join(s.KafkaBrokers, ",")}
	for name, value := range map[string]string{
		"TLS": string(s.KafkaTLS), "TLS_CA": s.KafkaTLSCA, "TLS_CERT": s.KafkaTLSCert, "TLS_KEY": s.KafkaTLSKey,
		"SASL_MECHANISM": string(s.KafkaSASLMechanism), "SASL_USERNAME": s.KafkaSASLUsername,
		"SASL_PASSWORD_FILE": s.KafkaSASLPasswordFile.String(), "OAUTH_TOKEN_URL": string(s.KafkaOAuthTokenURL),
		"OAUTH_CLIENT_ID": s.KafkaOAuthClientID, "OAUTH_CLIENT_SECRET": string(s.KafkaOAuthClientSecret),
	} {
		if value != "" {
			env["PAYLATCH_KAFKA_"+name] = value
		}
	}
	return env
}

// startFakes starts a kfake for each way, since one has one listener.
func (b *SecureBroker) startFakes(t testing.TB) {
	t.Helper()
	b.serve(t)
	for _, way := range []string{
		OnlyTLS, MutualTLS, string(brokers.Plain), string(brokers.Scram256), string(brokers.Scram512),
	} {
		config := b.serving.Load().Clone()
		options := []kfake.Opt{kfake.NumBrokers(1), kfake.TLS(config)}
		switch way {
		case OnlyTLS:
		case MutualTLS:
			config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				current := b.serving.Load().Clone()
				current.ClientAuth = tls.RequireAndVerifyClientCert
				return current, nil
			}
		default:
			options = append(options, kfake.EnableSASL(), kfake.Superuser(way, SecureUser, SecureSecret))
		}
		cluster, err := kfake.NewCluster(options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		b.addresses[way] = cluster.ListenAddrs()[0]
	}
}
