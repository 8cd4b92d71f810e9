package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
)

// setupCommand does at once, and as often as one likes, what migrate up, partitions init and
// tenants create do one by one.
type setupCommand struct {
	app.DatabaseSettings
	app.KafkaSettings
	app.TopicSettings
	Tenant             string `placeholder:"NAME" help:"Create this tenant, too, unless it exists; its key is shown once."`
	DevelopmentKey     bool   `help:"Give the tenant the key of paylatch-dev, which is public and guards nothing. Only in a test installation."`
	TestInstallation   bool   `help:"Mark the installation as one for tests: keys of the environments test and dev work only there. Refused if there are other live keys."`
	NoTestInstallation bool   `help:"Take that mark back: every replica refuses test keys within 5 s."`
}

// Faults implements cli.Checker.
func (c *setupCommand) Faults() []string {
	var faults []string
	if c.DevelopmentKey && c.Tenant == "" {
		faults = append(faults, "--development-key: needs --tenant")
	}
	if c.TestInstallation && c.NoTestInstallation {
		faults = append(faults, "--test-installation, --no-test-installation: give one of them")
	}
	return faults
}

// Run sets an installation up, and prints what it created and what it found.
func (c *setupCommand) Run(ctx context.Context, out cli.Output) error {
	schema, err := showing(ctx, out, "migrating the schema", func() (store.Schema, error) {
		return store.MigrateUp(ctx, string(c.URL()), migrations.FS, store.WithAccess(c.Access()))
	})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out.Stdout, schemaText(schema))
	return app.WithClients(ctx, c.DatabaseSettings, c.KafkaSettings, func(s *store.Store, k *kafka.Cluster) error {
		found, err := showing(ctx, out, "setting up the topic", func() (operator.Found, error) {
			return operator.EnsureTopic(ctx, s, k, topicOf(c.TopicSettings))
		})
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out.Stdout, "topic %s with %d partitions, delivery %s: %s\n",
			found.Topic, found.Partitions, found.Delivery, outcome(found.Created))
		if err := c.mark(ctx, s, out); err != nil || c.Tenant == "" {
			return err
		}
		return c.ensureTenant(ctx, s, out)
	})
}

// mark marks the installation as one for tests, or takes the mark back, or does neither.
func (c *setupCommand) mark(ctx context.Context, s *store.Store, out cli.Output) error {
	var changed bool
	var err error
	change := "marked"
	switch {
	case c.TestInstallation:
		changed, err = s.MarkTestInstallation(ctx)
	case c.NoTestInstallation:
		change = "unmarked"
		changed, err = s.UnmarkTestInstallation(ctx)
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("test installation: %w", err)
	}
	if !changed {
		change += " before, nothing was changed"
	}
	_, err = fmt.Fprintf(out.Stdout, "test installation: %s\n", change)
	return err
}

// ensureTenant creates the tenant, unless it exists. Its key comes last: scripts read the last
// word.
func (c *setupCommand) ensureTenant(ctx context.Context, s *store.Store, out cli.Output) error {
	if c.DevelopmentKey {
		created, err := operator.EnsureDevelopmentTenant(ctx, s, c.Tenant)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out.Stdout, "tenant %s with the development key: %s\n", c.Tenant, outcome(created))
		return err
	}
	_, err := s.CreateTenant(ctx, c.Tenant)
	if errors.Is(err, store.ErrTenantExists) { // It has keys of its own; add-key makes another one.
		_, err = fmt.Fprintf(out.Stdout, "tenant %s: %s\n", c.Tenant, outcome(false))
		return err
	}
	if err != nil {
		return fmt.Errorf("tenant %q: %w", c.Tenant, err)
	}
	key, err := payment.NewAPIKey("live")
	if err != nil {
		return err
	}
	return addKey(ctx, s, out, c.Tenant, key, store.Unrestricted)
}

// outcome says whether something was created now.
func outcome(created bool) string {
	if created {
		return "created"
	}
	return "found, nothing was changed"
}

// topicOf returns the topic that the settings describe.
func topicOf(s app.TopicSettings) operator.Topic {
	return operator.Topic{
		Name: string(s.Topic), Partitions: int32(s.Partitions), Replication: int16(s.Replication),
		Delivery: store.Delivery(s.Delivery), FromEnd: s.FromEnd,
	}
}
