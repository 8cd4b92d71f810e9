package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/embedded"
	"github.com/paylatch/paylatch/internal/loadtest"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// What `dev` sets up. All of it is on loopback and known to everyone who reads this: it guards nothing.
const (
	devTenant     = "dev"
	devKeyRandom  = "DevelopmentOnlyGuardsNothing0000"
	devTopic      = "payments"
	devPartitions = 12
	devSendersMax = 64
	devAdminTries = 100 // Ports tried for the admin listener, after the API's.
)

type devCommand struct {
	Data        string `env:"PAYLATCH_DATA" default:".paylatch" help:"Where everything is kept across restarts; delete it to begin anew."`
	Ephemeral   bool   `help:"Keep nothing: temporary data, removed at the end."`
	Listen      string `env:"PAYLATCH_LISTEN" default:"127.0.0.1:8080" help:"Where the API listens."`
	AdminListen string `env:"PAYLATCH_ADMIN_LISTEN" placeholder:"HOST:PORT" help:"Where /metrics and /debug/pprof/ listen; by default the next free port after the API's."`
	KafkaListen string `env:"PAYLATCH_KAFKA_LISTEN" default:"127.0.0.1:9092" help:"Where the broker listens."`
	PostgresBin string `env:"PAYLATCH_POSTGRES_BIN" placeholder:"DIR" help:"A directory with initdb, pg_ctl and postgres; by default PostgreSQL is fetched once."`
	Senders     string `env:"PAYLATCH_SENDERS" default:"2" help:"Senders, which share the partitions."`
	Simulate    int    `placeholder:"N" help:"Make N payments once everything is up, and show the way of each."`
	LogLevel    string `env:"PAYLATCH_LOG_LEVEL" default:"error" help:"debug, info, warn or error."`
}

// Run sets everything up on this machine and serves until ctx ends.
func (c *devCommand) Run(ctx context.Context, out outlet) (err error) {
	var check checker
	senders := check.integer("senders", c.Senders, 1, devSendersMax)
	level := check.logLevel(c.LogLevel)
	for flag, address := range map[string]string{"listen": c.Listen, "kafka-listen": c.KafkaListen} {
		loopback(&check, flag, address)
	}
	if c.AdminListen != "" {
		loopback(&check, "admin-listen", c.AdminListen)
	}
	if c.Simulate < 0 || c.Simulate > loadtest.SimulateMax {
		check.fault("simulate", "%d is no number from 0 to %d", c.Simulate, loadtest.SimulateMax)
	}
	if err := check.err(); err != nil {
		return err
	}
	if c.Ephemeral {
		c.Data = ""
	} else if c.Data, err = filepath.Abs(c.Data); err != nil {
		return err
	}
	logger := newLogger(out.stderr, level)
	m, err := c.start(ctx, senders, level, logger)
	if err != nil {
		return c.mend(err)
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	return m.run(ctx, c.Simulate, out)
}

// loopback checks that an address is one that no other machine reaches: the key, the database's password and the broker are open.
func loopback(check *checker, flag, address string) {
	host, _, err := net.SplitHostPort(check.address(flag, address))
	if err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		check.fault(flag, "%q must be a loopback address: dev guards nothing", address)
	}
}

// machine is a whole installation on this machine.
type machine struct {
	postgres *embedded.Postgres
	broker   *embedded.Broker
	service  *service
	key      payment.APIKey
}

// start brings the parts up, in the order in which they need each other.
func (c *devCommand) start(ctx context.Context, senders int, level slog.Level, logger *slog.Logger) (m *machine, err error) {
	m = &machine{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.stop())
		}
	}()
	if m.key, err = developmentKey(); err != nil {
		return m, err
	}
	// The ports that the user named come first: a clash is told at once.
	if m.broker, err = embedded.StartBroker(embedded.BrokerConfig{Dir: c.Data, Listen: c.KafkaListen, Log: logger}); err != nil {
		return m, err
	}
	api, admin, err := c.ports()
	if err != nil {
		return m, err
	}
	if m.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: c.Data, Bin: c.PostgresBin, Fsync: !c.Ephemeral, Log: postgresLog(level)}); err != nil {
		return m, err
	}
	topic := topicConfig{name: devTopic, partitions: devPartitions, replication: 1, delivery: store.Fenced}
	if _, err := setUp(ctx, m.postgres.URL(), []string{m.broker.Addr()}, topic, func(s *store.Store) error {
		// The embedded broker aborts what a crash left open only in memory; see the store's comment. All senders ended with it.
		return errors.Join(s.RenewTransactionalIDs(ctx), ensureDevelopmentTenant(ctx, s, devTenant))
	}); err != nil {
		return m, err
	}
	m.service, err = newService(ctx, config{
		databaseURL: m.postgres.URL(), brokers: []string{m.broker.Addr()}, listen: api, adminListen: admin, delivery: store.Fenced, source: "/paylatch/dev",
		connections: 16, shutdownTimeout: 20 * time.Second, logLevel: level, // And no limits: there is one tenant.
	}, senders, logger)
	return m, err
}

// postgresLog shows PostgreSQL's own log only to who asks for everything.
func postgresLog(level slog.Level) io.Writer {
	if level <= slog.LevelDebug {
		return os.Stderr
	}
	return nil
}

// ports checks that the API's port can be had, and finds the admin listener's.
func (c *devCommand) ports() (api, admin string, err error) {
	l, err := listen("listen", c.Listen)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = l.Close() }()
	if c.AdminListen != "" {
		return c.Listen, c.AdminListen, nil
	}
	host, port, _ := net.SplitHostPort(l.Addr().String())
	first, _ := strconv.Atoi(port)
	for n := first + 1; n <= first+devAdminTries && n <= 65535; n++ {
		admin := net.JoinHostPort(host, strconv.Itoa(n))
		if probe, err := net.Listen("tcp", admin); err == nil {
			return c.Listen, admin, probe.Close()
		}
	}
	return c.Listen, net.JoinHostPort(host, "0"), nil
}

// run serves until ctx ends; once everything answers it says so in one line, for people and scripts, and simulates if asked to.
func (m *machine) run(ctx context.Context, simulate int, out outlet) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- m.service.run(ctx) }()
	_, _ = fmt.Fprintf(out.stdout, "ready api=%s admin=%s kafka=%s postgres=%s key=%s\n",
		m.service.apiURL(), m.service.adminURL(), m.broker.Addr(), m.postgres.URL(), m.key.Reveal())
	var simulated error
	if simulate > 0 {
		simulated = m.simulate(ctx, simulate, out)
	}
	if simulated == nil && ctx.Err() == nil {
		m.sayHowToGoOn(out)
	}
	if simulated != nil {
		cancel()
	}
	return errors.Join(simulated, <-served)
}

func (m *machine) simulate(ctx context.Context, n int, out outlet) error {
	client, err := client.New(client.Config{Servers: []string{m.service.apiURL()}, APIKey: m.key.Reveal()})
	if err != nil {
		return err
	}
	defer client.Close()
	_, _ = fmt.Fprintln(out.stdout)
	return loadtest.Simulate(ctx, client, n, out.stdout)
}

func (m *machine) sayHowToGoOn(out outlet) {
	_, _ = fmt.Fprintf(out.stdout, `
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
`, m.service.apiURL(), m.key.Reveal(), m.broker.Addr(), devTopic)
}

// stop ends the broker and PostgreSQL; the service stops by itself.
func (m *machine) stop() error {
	var errs []error
	if m.postgres != nil {
		errs = append(errs, m.postgres.Stop())
	}
	if m.broker != nil {
		errs = append(errs, m.broker.Stop())
	}
	return errors.Join(errs...)
}

// mend adds to an error what the user can do about it.
func (c *devCommand) mend(err error) error {
	if errors.Is(err, errHoldsRecords) {
		return fmt.Errorf("the broker's log in %s is older than its database, which is new or was lost: delete the directory to begin anew (%w)", c.Data, err)
	}
	if errors.Is(err, embedded.ErrPortInUse) {
		return portInUse("kafka-listen", c.KafkaListen)
	}
	return err
}
