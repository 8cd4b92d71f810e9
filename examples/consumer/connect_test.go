//go:build unix

package main

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/test/parts"
)

// ping connects as the consumer does.
func ping(t *testing.T, kafka brokers) error {
	t.Helper()
	options, err := kafka.options()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return client.Ping(ctx)
}

// TestBrokers_Options connects with a client certificate, and with a password. As the controls, a
// client without a certificate, one with another password, and one that does not trust the broker's
// authority are refused.
func TestBrokers_Options(t *testing.T) {
	t.Parallel()
	b, dir := parts.SecureKafka(t), t.TempDir()
	mutual, scram := b.Settings(t, parts.MutualTLS), b.Settings(t, "SCRAM-SHA-512")
	password := func(name, content string) string { return parts.WriteFile(t, dir, name, []byte(content)) }
	certificate := brokers{
		addresses: mutual.KafkaBrokers, ca: mutual.KafkaTLSCA, cert: mutual.KafkaTLSCert, key: mutual.KafkaTLSKey,
	}
	login := brokers{
		addresses: scram.KafkaBrokers, ca: scram.KafkaTLSCA, user: parts.SecureUser,
		passwordFile: password("right", parts.SecureSecret+"\n"),
	}
	for name, kafka := range map[string]brokers{"certificate": certificate, "password": login} {
		if err := ping(t, kafka); err != nil {
			t.Errorf("with a %s: got %v, want a connection", name, err)
		}
	}
	none, wrong, untrusted := certificate, login, login
	none.cert, wrong.passwordFile = "", password("wrong", "another")
	untrusted.ca = parts.WriteFile(t, dir, "ca.pem", b.Issue(t, time.Now().Add(time.Hour)).Certificate)
	for name, kafka := range map[string]brokers{
		"no certificate": none, "wrong password": wrong, "untrusted": untrusted,
	} {
		if err := ping(t, kafka); err == nil {
			t.Errorf("%s: got a connection, want a refusal", name)
		}
	}
}
