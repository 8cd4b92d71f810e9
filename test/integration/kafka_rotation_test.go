package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/test/parts"
)

// TestKafka_Rotation replaces the certificates, the password, or the tokens of two replicas while
// they send. Then one of them is killed. The other one has been running since before. It takes over
// by new connections, for which it must have read the files again. Each payment is in the topic
// once.
//
// kfake has no OAUTHBEARER, and its users are fixed.
func TestKafka_Rotation(t *testing.T) {
	t.Parallel()
	rotations := map[string]func(*testing.T, *parts.SecureBroker, brokers.Settings){parts.MutualTLS: rotateCertificates}
	if parts.InDocker(t) {
		rotations[string(brokers.Scram512)] = rotatePassword
		rotations[string(brokers.OAuthBearer)] = rotateTokens
	}
	for way, rotate := range rotations {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			const wave = 500
			b := parts.SecureKafka(t)
			if b.Issuer != nil {
				b.Issuer.Life = 5 * time.Second
			}
			s := b.Settings(t, way)
			i := installIn(t, parts.EmptyPostgres(t), "", nil, parts.Environ(s))
			i.access = open(t, s)
			first, second := i.launch(t, "sender"), i.launch(t, "sender")
			i.bulk(t, wave)
			i.drained(t)
			i.bulk(t, wave)
			rotate(t, b, s)
			i.bulk(t, wave)
			first.kill()
			i.bulk(t, wave)
			i.drained(t)
			i.launch(t, "sender")
			second.kill()
			i.bulk(t, wave)
			i.drained(t)
			i.wantClean(t, 5*wave)
		})
	}
}

// open returns how clients with the settings connect.
func open(t *testing.T, s brokers.Settings) *brokers.Access {
	t.Helper()
	access, err := s.KafkaAccess()
	if err != nil {
		t.Fatal(err)
	}
	return access
}

// tryBroker describes no topic, over a new connection.
func tryBroker(t *testing.T, s brokers.Settings) error {
	t.Helper()
	cluster, err := kafka.NewCluster(open(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = cluster.Topic(ctx, "payments-none")
	if errors.Is(err, kafka.ErrNoTopic) {
		return nil
	}
	return err
}

func rotateCertificates(t *testing.T, b *parts.SecureBroker, s brokers.Settings) {
	t.Helper()
	old := s
	dir := t.TempDir()
	old.KafkaTLSCert = copyFile(t, dir, s.KafkaTLSCert)
	old.KafkaTLSKey = copyFile(t, dir, s.KafkaTLSKey)
	if err := tryBroker(t, old); err != nil {
		t.Fatalf("got error %v with the old certificate before the rotation, want none", err)
	}
	b.ReplaceCA(t)
	pair := b.Issue(t, time.Now().Add(time.Hour))
	parts.WriteFile(t, filepath.Dir(s.KafkaTLSCA), filepath.Base(s.KafkaTLSCA), b.CA.PEM)
	parts.WriteFile(t, filepath.Dir(s.KafkaTLSCert), filepath.Base(s.KafkaTLSCert), pair.Certificate)
	parts.WriteFile(t, filepath.Dir(s.KafkaTLSKey), filepath.Base(s.KafkaTLSKey), pair.Key)
	eventually(t, "the old certificate is refused", func() error {
		if tryBroker(t, old) == nil {
			return errNotYet
		}
		return nil
	})
}

func rotatePassword(t *testing.T, b *parts.SecureBroker, s brokers.Settings) {
	t.Helper()
	old := s
	old.KafkaSASLPassword, old.KafkaSASLPasswordFile = parts.SecureSecret, secretfile.File{}
	if err := tryBroker(t, old); err != nil {
		t.Fatalf("got error %v with the old password before the rotation, want none", err)
	}
	b.ChangePassword(t, "sesame-again")
	path := s.KafkaSASLPasswordFile.String()
	parts.WriteFile(t, filepath.Dir(path), filepath.Base(path), []byte("sesame-again"))
	eventually(t, "the old password is refused", func() error {
		if tryBroker(t, old) == nil {
			return errNotYet
		}
		return nil
	})
}

// rotateTokens waits until the replicas had to log in again with new tokens.
func rotateTokens(t *testing.T, b *parts.SecureBroker, _ brokers.Settings) {
	t.Helper()
	before := b.Issuer.Issued()
	eventually(t, "tokens are renewed", func() error {
		if b.Issuer.Issued() < before+6 {
			return errNotYet
		}
		return nil
	})
}

func copyFile(t *testing.T, dir, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parts.WriteFile(t, dir, filepath.Base(path), content)
}
