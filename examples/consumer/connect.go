package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// brokers are the Kafka brokers, and how to connect to them. Without a file or a user, connections
// are in plain text and without a login.
type brokers struct {
	addresses []string
	// ca, cert and key are PEM files; cert and key are for brokers that demand a certificate.
	ca, cert, key string
	// user and passwordFile are those of SCRAM-SHA-512.
	user, passwordFile string
}

// options returns what a client needs to connect. The files are read once.
func (b brokers) options() ([]kgo.Opt, error) {
	options := []kgo.Opt{kgo.SeedBrokers(b.addresses...)}
	if b.ca != "" {
		config, err := b.tls()
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	if b.user != "" {
		password, err := os.ReadFile(b.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("password of Kafka: %w", err)
		}
		login := scram.Auth{User: b.user, Pass: strings.TrimSuffix(string(password), "\n")}
		options = append(options, kgo.SASL(login.AsSha512Mechanism()))
	}
	return options, nil
}

func (b brokers) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(b.ca)
	if err != nil {
		return nil, fmt.Errorf("authorities of Kafka: %w", err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("authorities of Kafka: no certificate in " + b.ca)
	}
	if b.cert != "" {
		pair, err := tls.LoadX509KeyPair(b.cert, b.key)
		if err != nil {
			return nil, fmt.Errorf("certificate for Kafka: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
