package app

import (
	"log/slog"
	"time"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/brokers"
)

// The groups of settings have kong's tags, and the commands of cmd/paylatch embed them.

// KafkaSettings say how to connect to the brokers.
type KafkaSettings = brokers.Settings

// LogSettings are those of the log.
type LogSettings struct {
	LogLevel LogLevel `env:"PAYLATCH_LOG_LEVEL" default:"info" help:"debug, info, warn or error. Each 2xx response is logged at debug."`
}

// APISettings are those of the API.
type APISettings struct {
	APITLSSettings
	Listen         Address           `env:"PAYLATCH_LISTEN" default:"127.0.0.1:8080" help:"Where the API listens."`
	TenantRate     Rate              `env:"PAYLATCH_TENANT_RATE" default:"0" help:"Requests per second that one tenant may make of this replica, like 50 or 0.5; more get 429. 0 is no limit."`
	TenantInFlight InFlight          `env:"PAYLATCH_TENANT_IN_FLIGHT" default:"${tenantInFlight}" help:"Requests that one tenant may have under way at once on this replica; more get 429. 0 is no limit."`
	Connections    ClientConnections `env:"PAYLATCH_CONNECTIONS" default:"0" help:"Connections that clients may have open to the API at once. One more closes the one that is idle for longest. 0 is half of the files that the process may open, at most ${connections}."`
	ShowPosition   bool              `env:"PAYLATCH_SHOW_POSITION" help:"Show tenants where in Kafka their payments are. The offsets reveal to each tenant how many payments all of them make."`
	DrainDelay     DrainDelay        `env:"PAYLATCH_DRAIN_DELAY" default:"0s" help:"How long a process that is to stop continues to serve, with /readyz failing, so that balancers move away; at most 10m. --shutdown-timeout comes on top. A second signal ends it."`
}

// DeliverySettings are those that the topic and its senders have in common.
type DeliverySettings struct {
	Delivery Delivery `env:"PAYLATCH_DELIVERY" default:"fenced" help:"fenced emits each payment exactly once, and needs a broker with transactions; locked needs acks only, and repeats a batch that a crash interrupted. The partitions and their senders must have the same."`
}

// SenderSettings are those of a sender.
type SenderSettings struct {
	DeliverySettings
	Source   Source   `env:"PAYLATCH_SOURCE" default:"/paylatch" help:"The events' ce_source: a URI reference that names this installation."`
	BatchMax BatchMax `env:"PAYLATCH_BATCH_MAX" default:"1000" help:"Payments in one batch at most."`
}

// ProcessSettings are those of every process that serves.
type ProcessSettings struct {
	AdminListen         Address     `env:"PAYLATCH_ADMIN_LISTEN" default:"127.0.0.1:8081" help:"Where /metrics, /livez, /readyz and /debug/pprof/ are served; not for clients."`
	AdminHosts          Hosts       `env:"PAYLATCH_ADMIN_HOSTS" placeholder:"NAME,…" help:"Names by which the admin listener is reached, besides IP addresses and localhost. A request for another name gets 421, so that no web page can read from it."`
	DatabaseConnections Connections `env:"PAYLATCH_DATABASE_CONNECTIONS" default:"16" help:"Pooled connections at most; senders have one more for each partition they own."`
	AdminAccessSettings
	ShutdownTimeout ShutdownTimeout `env:"PAYLATCH_SHUTDOWN_TIMEOUT" default:"20s" help:"How long a stop may take, after --drain-delay, before it is cut short, which is safe. Kill the process no sooner than after both."`
}

// TopicSettings describe the topic to set up.
type TopicSettings struct {
	DeliverySettings
	Topic       Topic       `env:"PAYLATCH_TOPIC" default:"payments" help:"The topic that payments are emitted to; no other program may write to it."`
	Partitions  Partitions  `env:"PAYLATCH_PARTITIONS" default:"12" help:"How many partitions payments are spread over, at most 1000; senders have a database session for each."`
	Replication Replication `env:"PAYLATCH_REPLICATION" default:"0" help:"Replication factor of a new topic; 0 is the broker's default, 3 or more also sets min.insync.replicas=2."`
	FromEnd     bool        `help:"Take a topic that holds records already: what is below its present end is not ours."`
}

// Config describes one process.
type Config struct {
	DatabaseSettings
	ProcessSettings
	LogSettings
	// API is nil in a process without an API.
	API *APISettings
	// Sender is nil in a process without a sender.
	Sender *SenderSettings
	// KafkaSettings are used by senders only.
	KafkaSettings
	// Senders is how many senders run in the process, each as a replica of its own; 0 means 1.
	Senders int
}

// config returns what the API needs. It fails if there may be too few files for the connections.
func (s *APISettings) config() (api.Config, error) {
	connections, err := connectionsWithin(int(s.Connections), openFilesMax())
	return api.Config{
		Limits:         api.TenantLimits{Rate: float64(s.TenantRate), InFlight: int(s.TenantInFlight)},
		ConnectionsMax: connections,
		ShowPosition:   s.ShowPosition,
	}, err
}

// drainDelay returns 0 for a process without an API: no balancer sends to it.
func (c Config) drainDelay() time.Duration {
	if c.API == nil {
		return 0
	}
	return time.Duration(c.API.DrainDelay)
}

// LogValue returns the configuration without its secrets.
func (c Config) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("database_url", c.URL().String()),
		slog.String("database_sslmode", c.URL().sslMode()),
		slog.String("admin_listen", string(c.AdminListen)),
		slog.Bool("admin_tls", c.AdminTLSCert != ""),
		slog.Bool("admin_authentication", c.Authenticates()),
		slog.Int("database_connections", int(c.DatabaseConnections)),
		slog.Duration("shutdown_timeout", time.Duration(c.ShutdownTimeout)),
		slog.String("log_level", c.LogLevel.String()),
	}
	if c.API != nil {
		attrs = append(attrs,
			slog.String("listen", string(c.API.Listen)),
			slog.Bool("tls", c.API.TLSCert != ""),
			slog.Bool("client_certificates", c.API.TLSClientCA != ""),
			slog.Float64("tenant_rate", float64(c.API.TenantRate)),
			slog.Int("tenant_in_flight", int(c.API.TenantInFlight)),
			slog.Int("connections", int(c.API.Connections)),
			slog.Bool("show_position", c.API.ShowPosition),
			slog.Duration("drain_delay", time.Duration(c.API.DrainDelay)))
	}
	if c.Sender != nil {
		attrs = append(attrs,
			slog.Any("kafka_brokers", []string(c.KafkaBrokers)),
			slog.String("kafka_tls", string(c.KafkaTLS)),
			slog.String("kafka_sasl_mechanism", string(c.KafkaSASLMechanism)),
			slog.String("delivery", string(c.Sender.Delivery)),
			slog.String("source", string(c.Sender.Source)),
			slog.Int("batch_max", int(c.Sender.BatchMax)))
	}
	return slog.GroupValue(attrs...)
}
