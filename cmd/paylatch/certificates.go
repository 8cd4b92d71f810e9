package main

import (
	"context"
	"fmt"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

type tenantsAddCertificateCommand struct {
	app.DatabaseSettings
	termSettings
	Name        string          `arg:"" help:"The tenant."`
	Certificate certificateName `arg:"" help:"The name in the client certificate: URI:…, or DNS:… if it has no URI, or subject:… if it has neither."`
}

// certificateName is the name of a client certificate.
type certificateName string

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *certificateName) UnmarshalText(text []byte) error {
	*n = certificateName(text)
	_, err := payment.CertificateKey(string(text))
	return err
}

// Run has a client certificate identify the tenant.
func (c *tenantsAddCertificateCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		key, err := payment.CertificateKey(string(c.Certificate))
		if err != nil {
			return err
		}
		id, err := s.AddAPIKey(ctx, c.Name, key, c.terms())
		if err != nil {
			return fmt.Errorf("tenant %q: %w", c.Name, err)
		}
		_, err = fmt.Fprintf(out.Stdout, "tenant %s key %d: client certificates named %s\n", c.Name, id, c.Certificate)
		return err
	})
}
