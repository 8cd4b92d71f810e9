package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

// The settings are read as text and checked together, so that all that is wrong is told at once; kong alone would stop at the first.

type databaseSettings struct {
	DatabaseURL string `env:"PAYLATCH_DATABASE_URL" placeholder:"postgres://…" help:"PostgreSQL 15 or newer, itself: a connection pooler is refused."`
}

type kafkaSettings struct {
	KafkaBrokers string `env:"PAYLATCH_KAFKA_BROKERS" placeholder:"HOST:PORT,…" help:"Brokers to begin with."`
}

type logSettings struct {
	LogLevel string `env:"PAYLATCH_LOG_LEVEL" default:"info" help:"debug, info, warn or error. Each 2xx answer is logged at debug."`
}

type apiSettings struct {
	Listen         string `env:"PAYLATCH_LISTEN" default:"127.0.0.1:8080" help:"Where the API listens."`
	TenantRate     string `env:"PAYLATCH_TENANT_RATE" default:"0" help:"Requests per second that one tenant may make of this replica, like 50 or 0.5; more are answered 429. 0 is no limit."`
	TenantInFlight string `env:"PAYLATCH_TENANT_IN_FLIGHT" default:"${tenantInFlight}" help:"Requests that one tenant may have under way at once on this replica; more are answered 429. 0 is no limit."`
	DrainDelay     string `env:"PAYLATCH_DRAIN_DELAY" default:"0s" help:"How long a process that is to stop goes on serving, with /readyz failing, so that balancers move away; at most 10m. --shutdown-timeout comes on top. A second signal ends it."`
}

type deliverySettings struct {
	Delivery string `env:"PAYLATCH_DELIVERY" default:"fenced" help:"fenced emits each payment exactly once, and needs a broker with transactions; locked needs acks only, and repeats a batch that a crash interrupted. The partitions and their senders must have the same."`
}

type senderSettings struct {
	deliverySettings
	Source   string `env:"PAYLATCH_SOURCE" default:"/paylatch" help:"The events' ce_source: a URI reference that names this installation."`
	BatchMax string `env:"PAYLATCH_BATCH_MAX" default:"1000" help:"Payments in one batch at most."`
}

type processSettings struct {
	AdminListen         string `env:"PAYLATCH_ADMIN_LISTEN" default:"127.0.0.1:8081" help:"Where /metrics and /debug/pprof/ listen; not for clients."`
	DatabaseConnections string `env:"PAYLATCH_DATABASE_CONNECTIONS" default:"16" help:"Pooled connections at most; senders have one more for each partition they own."`
	ShutdownTimeout     string `env:"PAYLATCH_SHUTDOWN_TIMEOUT" default:"20s" help:"How long a stop may take, after --drain-delay, before it is cut short, which is safe. Kill the process no sooner than after both."`
}

type topicSettings struct {
	deliverySettings
	Topic       string `env:"PAYLATCH_TOPIC" default:"payments" help:"The topic that payments are emitted to; nobody else may write to it."`
	Partitions  string `env:"PAYLATCH_PARTITIONS" default:"12" help:"How many partitions payments are spread over, at most 1000; senders have a database session for each."`
	Replication string `env:"PAYLATCH_REPLICATION" default:"0" help:"Replication factor of a new topic; 0 is the broker's default, 3 or more also sets min.insync.replicas=2."`
	FromEnd     bool   `help:"Take a topic that holds records already: what is below its present end is not ours."`
}

// topicConfig is the topic to set up.
type topicConfig struct {
	name        string
	partitions  int32
	replication int16
	fromEnd     bool
	delivery    store.Delivery
}

// config is what the settings say, once they are checked.
type config struct {
	databaseURL     string
	brokers         []string
	listen          string // Empty: no API.
	limits          api.TenantLimits
	adminListen     string
	delivery        store.Delivery // Empty: no sender.
	source          string
	batchMax        int
	connections     int32
	drainDelay      time.Duration
	shutdownTimeout time.Duration
	logLevel        slog.Level
}

// configError is all that is wrong with a configuration.
type configError struct{ faults []string }

func (e *configError) Error() string {
	return "the configuration is wrong:\n  " + strings.Join(e.faults, "\n  ")
}

// checker gathers faults; each check returns the value it read.
type checker struct{ faults []string }

func (c *checker) fault(name, format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf("--%s (%s): ", name, envName(name))+fmt.Sprintf(format, args...))
}

func (c *checker) err() error {
	if len(c.faults) == 0 {
		return nil
	}
	return &configError{c.faults}
}

func envName(flag string) string {
	return "PAYLATCH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (c *checker) databaseURL(s string) string {
	if s == "" {
		c.fault("database-url", "is required, like postgres://user:password@host:5432/database")
		return ""
	}
	if _, err := pgx.ParseConfig(s); err != nil {
		c.fault("database-url", "is no PostgreSQL URL") // The error itself may hold the password.
	}
	return s
}

func (c *checker) brokers(s string) []string {
	if s == "" {
		c.fault("kafka-brokers", "is required, like kafka-1:9092,kafka-2:9092")
		return nil
	}
	brokers := strings.Split(s, ",")
	for i, b := range brokers {
		brokers[i] = strings.TrimSpace(b)
		c.address("kafka-brokers", brokers[i])
	}
	return brokers
}

func (c *checker) address(name, s string) string {
	_, port, err := net.SplitHostPort(s)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		c.fault(name, "%q is no HOST:PORT", s)
	}
	return s
}

func (c *checker) integer(name, s string, least, most int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		c.fault(name, "%q is no number from %d to %d", s, least, most)
	}
	return n
}

func (c *checker) duration(name, s string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		c.fault(name, "%q is no duration from %s to %s", s, least, most)
	}
	return d
}

func (c *checker) logLevel(s string) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s)); err != nil {
		c.fault("log-level", "%q is not one of debug, info, warn, error", s)
	}
	return level
}

// partitionsMax bounds the partitions: senders have a database session for each.
const partitionsMax = 1000

func (c *checker) delivery(s string) store.Delivery {
	d := store.Delivery(s)
	if d != store.Fenced && d != store.Locked {
		c.fault("delivery", "%q is neither %s nor %s", s, store.Fenced, store.Locked)
	}
	return d
}

func (c *checker) source(s string) string {
	const sourceMax = 255 // It is in every event, and an event has 8 KiB.
	if u, err := url.Parse(s); s == "" || len(s) > sourceMax || err != nil || u.String() != s {
		c.fault("source", "%.40q is no URI reference of at most %d bytes", s, sourceMax)
	}
	return s
}

// topicForm is what Kafka takes as a topic's name.
var topicForm = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func (c *checker) topicSettings(s topicSettings) topicConfig {
	if !topicForm.MatchString(s.Topic) || s.Topic == "." || s.Topic == ".." {
		c.fault("topic", "%q is no topic name: letters, digits, dot, hyphen, underscore", s.Topic)
	}
	return topicConfig{
		name:        s.Topic,
		partitions:  int32(c.integer("partitions", s.Partitions, 1, partitionsMax)), //nolint:gosec // G115: at most 1,000.
		replication: int16(c.integer("replication", s.Replication, 0, 100)),         //nolint:gosec // G115: at most 100.
		fromEnd:     s.FromEnd,
		delivery:    c.delivery(s.Delivery),
	}
}

func (c *checker) process(s processSettings, database databaseSettings, log logSettings) config {
	return config{
		databaseURL: c.databaseURL(database.DatabaseURL),
		adminListen: c.address("admin-listen", s.AdminListen),
		connections: int32(c.integer("database-connections", s.DatabaseConnections, 1, 1000)), //nolint:gosec // G115: at most 1000.
		// Shorter than a pass would cut every stop short; longer than an orchestrator waits is no use.
		shutdownTimeout: c.duration("shutdown-timeout", s.ShutdownTimeout, time.Second, 10*time.Minute),
		logLevel:        c.logLevel(log.LogLevel),
	}
}

// drainDelayMax is beyond what the slowest balancer needs. A longer delay is a mistyped one, and
// would hold a rollout.
const drainDelayMax = 10 * time.Minute

func (c *checker) api(s apiSettings, to *config) {
	const inFlightMax = 1_000_000 // Beyond the connections that a process can have.
	to.listen = c.address("listen", s.Listen)
	to.drainDelay = c.duration("drain-delay", s.DrainDelay, 0, drainDelayMax)
	to.limits = api.TenantLimits{Rate: c.rate("tenant-rate", s.TenantRate), InFlight: c.integer("tenant-in-flight", s.TenantInFlight, 0, inFlightMax)}
}

// rate reads requests per second. One below the least is refused and not rounded to 0, which would be no limit at all.
func (c *checker) rate(name, s string) float64 {
	r, err := strconv.ParseFloat(s, 64)
	if err != nil || r != 0 && !(r >= api.TenantRateMin && r <= api.TenantRateMax) { // NaN is neither.
		c.fault(name, "%q is neither 0, for no limit, nor a number from %v to %d", s, api.TenantRateMin, api.TenantRateMax)
	}
	return r
}

func (c *checker) sender(s senderSettings, kafka kafkaSettings, to *config) {
	to.brokers = c.brokers(kafka.KafkaBrokers)
	to.delivery = c.delivery(s.Delivery)
	to.source = c.source(s.Source)
	to.batchMax = c.integer("batch-max", s.BatchMax, 1, 10*sender.BatchMaxDefault)
}

// LogValue shows the configuration without its secrets.
func (c config) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("database_url", redacted(c.databaseURL)), slog.Any("kafka_brokers", c.brokers), slog.String("listen", c.listen),
		slog.String("admin_listen", c.adminListen), slog.Float64("tenant_rate", c.limits.Rate), slog.Int("tenant_in_flight", c.limits.InFlight),
		slog.String("delivery", string(c.delivery)), slog.String("source", c.source),
		slog.Int("batch_max", c.batchMax), slog.Int("database_connections", int(c.connections)),
		slog.String("drain_delay", c.drainDelay.String()), slog.String("shutdown_timeout", c.shutdownTimeout.String()), slog.String("log_level", c.logLevel.String()),
	)
}

// redacted shows where a database is, not how one gets in: PostgreSQL takes the password in the authority, in the query, and in key=value form.
func redacted(databaseURL string) string {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "***"
	}
	return fmt.Sprintf("postgres://%s:***@%s/%s", config.User, net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))), config.Database)
}
