package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
)

// setupCommand does at once, and as often as one likes, what migrate up, partitions init and tenants create do one by one.
type setupCommand struct {
	databaseSettings
	kafkaSettings
	topicSettings
	Tenant         string `placeholder:"NAME" help:"Make this tenant, too, if it is not there; its key is shown once."`
	DevelopmentKey bool   `help:"Give the tenant the key that paylatch dev has, which guards nothing."`
}

// Run sets an installation up, or finds it set up.
func (c *setupCommand) Run(ctx context.Context, out outlet) error {
	var check checker
	url := check.databaseURL(c.DatabaseURL)
	brokers := check.brokers(c.KafkaBrokers)
	topic := check.topicSettings(c.topicSettings)
	if c.DevelopmentKey && c.Tenant == "" {
		check.fault("development-key", "needs --tenant")
	}
	if err := check.err(); err != nil {
		return err
	}
	schema, err := setUp(ctx, url, brokers, topic, func(s *store.Store) error {
		if c.DevelopmentKey {
			return ensureDevelopmentTenant(ctx, s, c.Tenant)
		}
		if c.Tenant == "" {
			return nil
		}
		_, err := s.CreateTenant(ctx, c.Tenant)
		switch {
		case errors.Is(err, store.ErrTenantExists): // It has keys of its own; another one is asked for by add-key.
			return nil
		case err != nil:
			return err
		}
		key, err := payment.NewAPIKey("live")
		if err != nil {
			return err
		}
		return addKey(ctx, s, out, c.Tenant, key)
	})
	if err == nil && schema.Current > schema.Latest {
		_, err = fmt.Fprintln(out.stdout, schemaText(schema))
	}
	return err
}

// setUp migrates the database and creates the topic, if that was not done before. Then it calls
// then with the store. A schema that is one version ahead is left as it is, since setup also runs
// when an update is rolled back.
func setUp(ctx context.Context, databaseURL string, brokers []string, topic topicConfig,
	then func(*store.Store) error,
) (store.Schema, error) {
	schema, err := store.MigrateUp(ctx, databaseURL, migrations.FS)
	if err != nil {
		return schema, err
	}
	return schema, withParts(ctx, databaseURL, brokers, func(s *store.Store, cluster *kafka.Cluster) error {
		if err := initPartitions(ctx, s, cluster, topic); err != nil && !errors.Is(err, store.ErrTopicIsSetUp) {
			return err
		}
		return then(s)
	})
}

// developmentKey is the same on every machine and known to everyone: it guards nothing.
func developmentKey() (payment.APIKey, error) { return payment.APIKeyOf("dev", devKeyRandom) }

// ensureDevelopmentTenant makes a tenant with the development key, or finds it.
func ensureDevelopmentTenant(ctx context.Context, s *store.Store, name string) error {
	key, err := developmentKey()
	if err != nil {
		return err
	}
	if _, err := s.CreateTenant(ctx, name); err != nil && !errors.Is(err, store.ErrTenantExists) {
		return err
	}
	if _, err := s.AddAPIKey(ctx, name, key); err != nil && !errors.Is(err, store.ErrKeyExists) {
		return err
	}
	return nil
}
