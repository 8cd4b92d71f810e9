package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

type tenantsCommand struct {
	Create         tenantsCreateCommand         `cmd:"" help:"Make a tenant and its first API key, which is shown this once."`
	List           tenantsListCommand           `cmd:"" help:"List tenants and their keys."`
	AddKey         tenantsAddKeyCommand         `cmd:"" name:"add-key" help:"Give a tenant one more live key, which is shown this once."`
	AddCertificate tenantsAddCertificateCommand `cmd:"" name:"add-certificate" help:"Have client certificates of this name identify a tenant, with or without an API key."`
	RevokeKey      tenantsRevokeKeyCommand      `cmd:"" name:"revoke-key" help:"End a key: every replica refuses it within 5 s."`
	Disable        tenantsDisableCommand        `cmd:"" help:"Have all keys of a tenant refused within 5 s. What it has created is still sent."`
	Enable         tenantsEnableCommand         `cmd:"" help:"Have the live keys of a disabled tenant accepted again."`
}

type tenantsCreateCommand struct {
	app.DatabaseSettings
	keySettings
	Name string `arg:"" help:"Lower-case letters, digits and hyphens; it stands in events and cannot be changed."`
}

// Run makes a tenant and its first key.
func (c *tenantsCreateCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		key, err := c.newKey()
		if err != nil {
			return err
		}
		if _, err := s.CreateTenant(ctx, c.Name); err != nil {
			return fmt.Errorf("tenant %q: %w", c.Name, err)
		}
		return addKey(ctx, s, out, c.Name, key, c.terms())
	})
}

type tenantsAddKeyCommand struct {
	app.DatabaseSettings
	keySettings
	Name string `arg:"" help:"The tenant."`
}

// Run gives a tenant one more key.
func (c *tenantsAddKeyCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		key, err := c.newKey()
		if err != nil {
			return err
		}
		return addKey(ctx, s, out, c.Name, key, c.terms())
	})
}

// addKey stores a key's hash and shows the key. Scripts read the line's last word.
func addKey(
	ctx context.Context, s *store.Store, out cli.Output, tenant string, key payment.APIKey, terms store.APIKeyTerms,
) error {
	id, err := s.AddAPIKey(ctx, tenant, key, terms)
	if err != nil {
		return fmt.Errorf("tenant %q: %w", tenant, err)
	}
	_, err = fmt.Fprintf(out.Stdout, "tenant %s key %d, shown this once: %s\n", tenant, id, key.Reveal())
	return err
}

type tenantsRevokeKeyCommand struct {
	app.DatabaseSettings
	Name string `arg:"" help:"The tenant."`
	Key  int32  `arg:"" help:"The number of the key, as list prints it."`
}

// Run ends a key.
func (c *tenantsRevokeKeyCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		if err := s.RevokeAPIKey(ctx, c.Name, c.Key); err != nil {
			return fmt.Errorf("tenant %q, key %d: %w", c.Name, c.Key, err)
		}
		_, err := fmt.Fprintf(out.Stdout, "tenant %s key %d revoked; every replica refuses it within 5 s\n",
			c.Name, c.Key)
		return err
	})
}

type tenantsDisableCommand struct {
	app.DatabaseSettings
	Name string `arg:"" help:"The tenant."`
}

// Run disables a tenant.
func (c *tenantsDisableCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		changed, err := s.DisableTenant(ctx, c.Name)
		return printTenant(out, c.Name, "disabled; every replica refuses its keys within 5 s", changed, err)
	})
}

type tenantsEnableCommand struct {
	app.DatabaseSettings
	Name string `arg:"" help:"The tenant."`
}

// Run enables a tenant.
func (c *tenantsEnableCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		changed, err := s.EnableTenant(ctx, c.Name)
		return printTenant(out, c.Name, "enabled", changed, err)
	})
}

// printTenant prints what was changed.
func printTenant(out cli.Output, tenant, change string, changed bool, err error) error {
	if err != nil {
		return fmt.Errorf("tenant %q: %w", tenant, err)
	}
	if !changed {
		change = "found so, nothing was changed"
	}
	_, err = fmt.Fprintf(out.Stdout, "tenant %s: %s\n", tenant, change)
	return err
}

type tenantsListCommand struct{ app.DatabaseSettings }

// Run lists tenants and keys.
func (c *tenantsListCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		infos, err := s.Tenants(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(out.Stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "TENANT\tKEY\tHINT\tSTATE\tSCOPES\tCREATED\tEXPIRES\tLAST USED\tREVOKED\tNOTE")
		for _, i := range infos {
			key, created := "-", i.CreatedAt
			if i.KeyID != 0 {
				key = fmt.Sprint(i.KeyID)
			}
			_, _ = fmt.Fprintln(w, strings.Join([]string{
				i.Tenant, key, i.Hint, stateOf(i), strings.Join(i.Scopes, ","), timeText(&created),
				timeText(i.ExpiresAt), timeText(i.LastUsedAt), timeText(i.RevokedAt), i.Note,
			}, "\t"))
		}
		return w.Flush()
	})
}

// stateOf says whether a key works, and if not, why.
func stateOf(i store.APIKeyInfo) string {
	switch {
	case i.DisabledAt != nil:
		return "tenant disabled"
	case i.KeyID == 0:
		return ""
	case i.RevokedAt != nil:
		return "revoked"
	case i.Expired:
		return "expired"
	}
	return "live"
}

// timeText returns a time in UTC, or nothing.
func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.DateTime)
}
