package main

import (
	"context"
	"fmt"
	"regexp"
	"text/tabwriter"
	"time"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

type tenantsCommand struct {
	Create    tenantsCreateCommand    `cmd:"" help:"Make a tenant and its first API key, which is shown this once."`
	List      tenantsListCommand      `cmd:"" help:"List tenants and their keys."`
	AddKey    tenantsAddKeyCommand    `cmd:"" name:"add-key" help:"Give a tenant one more live key, which is shown this once."`
	RevokeKey tenantsRevokeKeyCommand `cmd:"" name:"revoke-key" help:"End a key: every replica refuses it within 5 s."`
}

type keySettings struct {
	Env string `default:"live" help:"The environment in the name of the key: live, test, …; for people and scanners only."`
}

// envForm is what an API key's environment may be.
var envForm = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

func (k keySettings) newKey() (payment.APIKey, error) {
	if !envForm.MatchString(k.Env) {
		return payment.APIKey{}, fmt.Errorf("--env %q: must be 1 to 16 lower-case letters and digits", k.Env)
	}
	return payment.NewAPIKey(k.Env)
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
		return addKey(ctx, s, out, c.Name, key)
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
		return addKey(ctx, s, out, c.Name, key)
	})
}

// addKey stores a key's hash and shows the key. Scripts read the line's last word.
func addKey(ctx context.Context, s *store.Store, out cli.Output, tenant string, key payment.APIKey) error {
	id, err := s.AddAPIKey(ctx, tenant, key)
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

type tenantsListCommand struct{ app.DatabaseSettings }

// Run lists tenants and keys.
func (c *tenantsListCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		infos, err := s.Tenants(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(out.Stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "TENANT\tKEY\tHINT\tCREATED\tREVOKED")
		for _, i := range infos {
			key, revoked := "-", ""
			if i.KeyID != 0 {
				key = fmt.Sprint(i.KeyID)
			}
			if i.RevokedAt != nil {
				revoked = i.RevokedAt.UTC().Format(time.DateTime)
			}
			created := i.CreatedAt.UTC().Format(time.DateTime)
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Tenant, key, i.Hint, created, revoked)
		}
		return w.Flush()
	})
}
