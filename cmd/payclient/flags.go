package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
)

const (
	defaultServer = "http://127.0.0.1:8080"
	defaultTopic  = "payments"
)

// description is printed as it stands.
const description = `The client of Paylatch: makes payments over HTTP and shows what becomes of them.

Examples:
  export PAYLATCH_API_KEY=pl_…

  payclient simulate -n 12                   made-up payments, each followed until it is in Kafka
  payclient load --rate 35/s --duration 1m   35 payments per second and ten reads for each, due or not
  payclient load --rate 100,200,400 --step 10s --slo p99=50ms --html report.html
                                             rates that rise; exit code 4 when the objective is missed
  payclient load --workers 32 --duration 1m  as fast as 32 clients get their answers
  payclient load --rate 50/s --journal j.jsonl --kafka-brokers 127.0.0.1:9092
                                             keeps each key and answer, and measures until Kafka shows it
  payclient audit --journal j.jsonl --kafka-brokers 127.0.0.1:9092
                                             is each of them stored, and in the topic once?
  payclient create --json payment.json       one payment; "-" reads it from standard input
  payclient get 0198c5e4-… --wait 10s        where is it? waits until it is sent
  payclient get --idempotency-key K          was it taken? for a create whose answer was lost

  payclient --server http://10.0.0.1:8080,http://10.0.0.2:8080 simulate
                                             several replicas: in turn, and on failure the next

Every create carries an idempotency key and is sent again with the same one, so that no retry makes a second payment.

Exit codes: 0 done · 1 refused or failed · 2 wrong usage · 3 outcome unknown: look the key up · 4 an SLO was missed`

// commandLine is all that can be said on it. What has a variable in the environment is told by its help, and read
// through the env handed to run.
type commandLine struct {
	Server         []string      `placeholder:"URL" help:"Base address of a replica; may be repeated or comma-separated. PAYLATCH_SERVER, otherwise http://127.0.0.1:8080."`
	Key            []string      `placeholder:"KEY" help:"API key of the tenant. Better in PAYLATCH_API_KEY: other users of this machine can see flags. load and audit take several, of as many tenants: repeated or comma-separated."`
	AttemptTimeout time.Duration `default:"5s" help:"How long one request may take."`
	RetryFor       time.Duration `default:"30s" help:"How long one call may take with all its retries."`

	Simulate simulateCommand `cmd:"" help:"Make plausible payments, follow each until it is sent, and print where it went."`
	Create   createCommand   `cmd:"" help:"Make one payment."`
	Get      getCommand      `cmd:"" help:"Show a payment, by its id or by its idempotency key."`
	Load     loadCommand     `cmd:"" help:"Make payments and read them, at a rate or as fast as the answers come, and measure it."`
	Audit    auditCommand    `cmd:"" help:"Hold the journal of a load against the service and the topic."`
}

// Validate refuses what client.New would take for "the default".
func (f *commandLine) Validate() error {
	if f.AttemptTimeout <= 0 || f.RetryFor <= 0 {
		return fmt.Errorf("--attempt-timeout and --retry-for must be above 0")
	}
	return nil
}

// session is what a command works with.
type session struct {
	ctx            context.Context
	flags          *commandLine
	env            func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// client is made for so many requests at once, of one tenant. The caller closes it.
func (s *session) client(connections int) (*client.Client, error) {
	clients, err := s.clients(client.Config{Connections: connections})
	if err != nil {
		return nil, err
	}
	if len(clients) > 1 {
		clients[0].Close()
		return nil, &usageError{fmt.Errorf("key: this command speaks for one tenant, %d API keys are given", len(clients))}
	}
	return clients[0], nil
}

// clients returns one for each tenant, with the given limits. They share their connections; the
// caller closes the first.
func (s *session) clients(limits client.Config) ([]*client.Client, error) {
	servers, keys := s.listed(s.flags.Server, "PAYLATCH_SERVER", defaultServer), s.listed(s.flags.Key, "PAYLATCH_API_KEY", "")
	if len(slices.Compact(slices.Sorted(slices.Values(keys)))) != len(keys) {
		return nil, &usageError{errors.New("key: an API key is given twice")}
	}
	first, err := client.New(client.Config{
		Servers:        servers,
		APIKey:         keys[0],
		AttemptTimeout: s.flags.AttemptTimeout,
		RetryFor:       s.flags.RetryFor,
		Connections:    limits.Connections,
		AttemptsMax:    limits.AttemptsMax,
	})
	if err != nil {
		return nil, &usageError{err}
	}
	clients := []*client.Client{first}
	for _, key := range keys[1:] {
		c, err := first.ForTenant(key)
		if err != nil {
			return nil, &usageError{err}
		}
		clients = append(clients, c)
	}
	return clients, nil
}

// listed is what a flag says, or else the environment's list, or else one value.
func (s *session) listed(flag []string, variable, otherwise string) []string {
	if len(flag) > 0 {
		return flag
	}
	return strings.Split(cmp.Or(s.env(variable), otherwise), ",")
}

// topic is where payments become visible; nil when no brokers are named.
func (s *session) topic(f kafkaFlags) *journal.Topic {
	brokers := s.listed(f.KafkaBrokers, "PAYLATCH_KAFKA_BROKERS", "")
	if brokers[0] == "" {
		return nil
	}
	return &journal.Topic{Brokers: brokers, Name: cmp.Or(f.Topic, s.env("PAYLATCH_TOPIC"), defaultTopic)}
}

// kafkaFlags say where payments become visible.
type kafkaFlags struct {
	KafkaBrokers []string `placeholder:"HOST:PORT" help:"Kafka brokers, comma-separated. PAYLATCH_KAFKA_BROKERS."`
	Topic        string   `placeholder:"NAME" help:"The payments' topic. PAYLATCH_TOPIC, otherwise payments."`
}

// print writes a value as indented JSON to standard output, where nothing else goes.
func (s *session) print(v any) error {
	e := json.NewEncoder(s.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// note tells people something; programs read standard output.
func (s *session) note(format string, args ...any) {
	fmt.Fprintf(s.stderr, "payclient: "+format+"\n", args...)
}
