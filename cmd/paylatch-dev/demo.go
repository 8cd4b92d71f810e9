package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/embedded"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/loadtest"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
)

// What the demo sets up. All of it is on loopback and public.
const (
	tenant     = "dev"
	topic      = "payments"
	partitions = 12
)

// demo is a whole installation on this machine.
type demo struct {
	postgres *embedded.Postgres
	broker   *embedded.Broker
	service  *app.Service
	key      payment.APIKey
}

// start starts everything, in the order in which the parts need each other.
func (c *runCommand) start(ctx context.Context, logger *slog.Logger, stages *stages) (d *demo, err error) {
	d = &demo{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	d.key, err = operator.DevelopmentKey()
	if err != nil {
		return d, err
	}
	// The ports that the user named come first: a clash is reported at once.
	d.broker, err = embedded.StartBroker(embedded.BrokerConfig{Dir: c.Data, Listen: string(c.KafkaListen), Log: logger})
	if err != nil {
		return d, err
	}
	held, err := c.hold()
	defer held.close()
	if err != nil {
		return d, err
	}
	stages.begin("starting PostgreSQL")
	d.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{
		Dir: c.Data, Bin: c.PostgresBin, Fsync: !c.Ephemeral, Log: c.postgresLog(), OnDownload: stages.downloaded,
	})
	if err != nil {
		return d, err
	}
	stages.begin("creating the schema, the topic and a tenant, unless they exist")
	if err := d.setUp(ctx); err != nil {
		return d, err
	}
	api, admin := held.release()
	d.service, err = app.New(ctx, d.config(c, api, admin), logger)
	return d, err
}

// config describes the service. It has no limits: there is one tenant.
func (d *demo) config(c *runCommand, api, admin app.Address) app.Config {
	return app.Config{
		DatabaseSettings: app.DatabaseSettings{DatabaseURL: app.DatabaseURL(d.postgres.URL())},
		KafkaSettings:    app.KafkaSettings{KafkaBrokers: app.Brokers{d.broker.Addr()}},
		LogSettings:      app.LogSettings{LogLevel: c.LogLevel},
		ProcessSettings: app.ProcessSettings{
			AdminListen: admin, DatabaseConnections: 16, ShutdownTimeout: app.ShutdownTimeout(20 * time.Second),
		},
		API: &app.APISettings{Listen: api, ShowPosition: true},
		Sender: &app.SenderSettings{
			DeliverySettings: app.DeliverySettings{Delivery: app.Delivery(store.DeliveryFenced)},
			Source:           "/paylatch/dev",
		},
		Senders: int(c.Senders),
	}
}

// setUp creates the schema, the topic and the tenant, unless an earlier run has.
func (d *demo) setUp(ctx context.Context) error {
	url := d.postgres.URL()
	if _, err := store.MigrateUp(ctx, url, migrations.FS); err != nil {
		return err
	}
	database := app.DatabaseSettings{DatabaseURL: app.DatabaseURL(url)}
	brokers := app.KafkaSettings{KafkaBrokers: app.Brokers{d.broker.Addr()}}
	return app.WithClients(ctx, database, brokers, func(s *store.Store, cluster *kafka.Cluster) error {
		wanted := operator.Topic{Name: topic, Partitions: partitions, Replication: 1, Delivery: store.DeliveryFenced}
		if _, err := operator.EnsureTopic(ctx, s, cluster, wanted); err != nil {
			return err
		}
		if err := renewTransactionalIDs(ctx, url); err != nil {
			return err
		}
		if _, err := s.MarkTestInstallation(ctx); err != nil {
			return err
		}
		_, err := operator.EnsureDevelopmentTenant(ctx, s, tenant)
		return err
	})
}

const updateTransactionalIDs = `update topic_partitions
	set transactional_id = topic || '-' || partition || '-' || replace(gen_random_uuid()::text, '-', '')`

// renewTransactionalIDs gives each partition a transactional id that the broker has never seen. The
// embedded broker aborts what a crash left open only in memory, so no later marker may have the old
// producer id: see embedded.Broker. All senders ended with the crash.
func renewTransactionalIDs(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, updateTransactionalIDs)
	return errors.Join(err, conn.Close(ctx))
}

// addresses returns what a user of the running demo needs.
func (d *demo) addresses() addresses {
	return addresses{
		API: d.service.URL(), Admin: d.service.AdminURL(),
		Kafka: d.broker.Addr(), Postgres: d.postgres.URL(), Key: d.key.Reveal(),
	}
}

// run serves until ctx ends. Once everything is up it prints one line for people and scripts, and
// simulates payments if there are to be some.
func (d *demo) run(ctx context.Context, simulate int, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- d.service.Run(ctx) }()
	a := d.addresses()
	_, _ = fmt.Fprintf(stdout, "ready api=%s admin=%s kafka=%s postgres=%s key=%s\n",
		a.API, a.Admin, a.Kafka, a.Postgres, a.Key)
	var simulated error
	if simulate > 0 {
		simulated = d.simulate(ctx, simulate, stdout)
	}
	if simulated == nil && ctx.Err() == nil {
		printNextSteps(stdout, a)
	}
	if simulated != nil {
		cancel()
	}
	return errors.Join(simulated, <-served)
}

func (d *demo) simulate(ctx context.Context, n int, stdout io.Writer) error {
	c, err := client.New(client.Config{Servers: []string{d.service.URL()}, APIKey: d.key.Reveal()})
	if err != nil {
		return err
	}
	defer c.Close()
	_, _ = fmt.Fprintln(stdout)
	return loadtest.Simulate(ctx, c, n, stdout)
}

func printNextSteps(stdout io.Writer, a addresses) {
	_, _ = fmt.Fprintf(stdout, `
Go on by hand, until Ctrl-C. The same key twice is the same payment; take another key for another one.

  curl -i %[1]s/payments -H 'Authorization: Bearer %[2]s' -H 'Content-Type: application/json' \
    -H 'Idempotency-Key: my-first-payment' -d '{
      "amount": 25687, "currency": "USD",
      "originator":  {"id": "567", "name": "Y"},
      "beneficiary": {"id": "123", "name": "X"},
      "sender":   {"type": "checking", "number": "765543322"},
      "receiver": {"type": "iban", "number": "DE89370400440532013000"}}'

  curl -i %[1]s/payments/ID -H 'Authorization: Bearer %[2]s' -H 'Prefer: wait=5'

  kcat -b %[3]s -C -t %[4]s -X isolation.level=read_committed -e -f '%%p:%%o %%k %%s\n'
`, a.API, a.Key, a.Kafka, topic)
}

// stop stops the broker and PostgreSQL. The service stops by itself.
func (d *demo) stop() error {
	var errs []error
	if d.postgres != nil {
		errs = append(errs, d.postgres.Stop())
	}
	if d.broker != nil {
		errs = append(errs, d.broker.Stop())
	}
	return errors.Join(errs...)
}
