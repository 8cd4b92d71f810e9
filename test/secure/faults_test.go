package secure

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/test/parts"
	"github.com/paylatch/paylatch/test/pki"
)

// fault is a mistake in the settings of a client.
type fault struct {
	name, way string
	change    func(t *testing.T, b *parts.SecureBroker, s *brokers.Settings)
	// want matches the error of each client, in any case.
	want string
	// reasoned is that the broker gives the reason. kfake closes the connection instead.
	reasoned bool
}

const (
	wrongSecret = "sesame-shut"
	// faultTimeout is when a client stops to try again.
	faultTimeout = 20 * time.Second
)

var faults = []fault{
	{"password of PLAIN", string(brokers.Plain), wrongPassword, "authentication failed", true},
	{"password of SCRAM-SHA-256", string(brokers.Scram256), wrongPassword, "authentication failed", true},
	{"password of SCRAM-SHA-512", string(brokers.Scram512), wrongPassword, "authentication failed", true},
	{"authority", parts.OnlyTLS, otherCA, "PAYLATCH_KAFKA_TLS_CA", false},
	{"server name", parts.OnlyTLS, func(_ *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
		s.KafkaTLSServerName = "kafka.example"
	}, "PAYLATCH_KAFKA_TLS_SERVER_NAME", false},
	{"no certificate", parts.MutualTLS, func(_ *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
		s.KafkaTLSCert, s.KafkaTLSKey = "", ""
	}, "PAYLATCH_KAFKA_TLS_CERT", false},
	{"expired certificate", parts.MutualTLS, func(t *testing.T, b *parts.SecureBroker, s *brokers.Settings) {
		setPair(t, s, b.Issue(t, time.Now().Add(-time.Minute)))
	}, "PAYLATCH_KAFKA_TLS_CERT", false},
	{"certificate of another authority", parts.MutualTLS, otherIssuer, "PAYLATCH_KAFKA_TLS_CERT", false},
	{"plain text", parts.OnlyTLS, func(_ *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
		*s = brokers.Settings{KafkaBrokers: s.KafkaBrokers}
	}, "TLS", false},
	{"no login", string(brokers.Plain), func(_ *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
		*s = brokers.Settings{KafkaBrokers: s.KafkaBrokers, KafkaTLS: "on", KafkaTLSCA: s.KafkaTLSCA}
	}, "SASL", false},
	{"other mechanism", string(brokers.Plain), func(_ *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
		s.KafkaSASLMechanism = brokers.Scram512
	}, "unsupported", true},
	{"client secret", string(brokers.OAuthBearer), func(_ *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
		s.KafkaOAuthClientSecret = wrongSecret
	}, "invalid_client", false},
	{"rights", string(brokers.OAuthBearer), func(_ *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
		s.KafkaOAuthClientID = parts.SecureGuest
	}, "authoriz|lacks a right", false},
	{"token endpoint", string(brokers.OAuthBearer), func(_ *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
		s.KafkaOAuthTokenURL = "http://127.0.0.1:1/token"
	}, "http://127.0.0.1:1/token", false},
}

func wrongPassword(t *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
	t.Helper()
	s.KafkaSASLPassword, s.KafkaSASLPasswordFile = wrongSecret, secretfile.File{}
}

func otherIssuer(t *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
	t.Helper()
	pair, err := newCA(t).Issue(parts.SecureUser, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	setPair(t, s, pair)
}

func otherCA(t *testing.T, _ *parts.SecureBroker, s *brokers.Settings) {
	t.Helper()
	s.KafkaTLSCA = parts.WriteFile(t, t.TempDir(), "ca.pem", newCA(t).PEM)
}

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("other CA")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func setPair(t *testing.T, s *brokers.Settings, pair pki.Pair) {
	t.Helper()
	dir := t.TempDir()
	s.KafkaTLSCert = parts.WriteFile(t, dir, "cert.pem", pair.Certificate)
	s.KafkaTLSKey = parts.WriteFile(t, dir, "key.pem", pair.Key)
}

// TestFaults: each client reports each mistake with its cause, and without a secret.
func TestFaults(t *testing.T) {
	t.Parallel()
	b := parts.SecureKafka(t)
	topic := parts.Topic()
	for _, way := range b.Ways() { // The control: the topic exists, and right settings work.
		if err := createTopic(bounded(t), open(t, b.Settings(t, way)), topic); err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			if f.way == way {
				t.Run(f.name, func(t *testing.T) {
					t.Parallel()
					wantFault(t, b, f, topic)
				})
			}
		}
	}
}

func wantFault(t *testing.T, b *parts.SecureBroker, f fault, topic string) {
	t.Helper()
	s := b.Settings(t, f.way)
	f.change(t, b, &s)
	access := open(t, s)
	for _, c := range clients {
		ctx, cancel := context.WithTimeout(bounded(t), faultTimeout)
		err := c.work(ctx, access, topic)
		cancel()
		for _, secret := range []string{parts.SecureSecret, wrongSecret} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: got error %v, want none with a secret", c.name, err)
			}
		}
		if f.reasoned && !parts.InDocker(t) && err != nil {
			continue
		}
		if err == nil || !regexp.MustCompile("(?i)"+f.want).MatchString(err.Error()) {
			t.Errorf("%s: got error %v, want one with %q", c.name, err, f.want)
		}
	}
}
