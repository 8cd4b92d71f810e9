package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/progress"
	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/internal/tlsfile"
)

const (
	defaultServer = "http://127.0.0.1:8080"
	defaultTopic  = "payments"
)

// description is printed as it is.
const description = `The client of Paylatch: makes payments over HTTP and shows what becomes of them.

Examples:
  export PAYLATCH_API_KEY=pl_…

  payclient simulate -n 12                   made-up payments, each followed until it is in Kafka
  payclient load --rate 35/s --duration 1m   35 payments per second, and ten status requests for each
  payclient load --rate 100,200,400 --step 10s --slo p99=50ms --html report.html
                                             rising rates; exit code 4 if the objective is missed
  payclient load --workers 32 --duration 1m  as fast as 32 clients get their responses
  payclient load --rate 50/s --journal j.jsonl --kafka-brokers 127.0.0.1:9092 --audit
                                             measures until Kafka has the payments, then audits them
  payclient audit --journal j.jsonl --kafka-brokers 127.0.0.1:9092
                                             is each of them stored, and in the topic once?
  payclient create --json payment.json       one payment; "-" reads it from standard input
  payclient get 0198c5e4-… --wait 10s        its status; waits until it is sent
  payclient get --idempotency-key K          was it created? after a create without a response

  payclient --server http://10.0.0.1:8080,http://10.0.0.2:8080 simulate
                                             several replicas: in turn, and the next one on failure

Every create carries an idempotency key and is retried with the same one: a retry makes no second payment.
Retries are printed to standard error.

Exit codes: 0 done · 1 refused or failed · 2 wrong usage · 3 outcome unknown: look the key up · 4 an SLO was missed`

// commandLine has all flags. The help names the environment variables; they are read through the
// env that run gets.
type commandLine struct {
	VersionFlag kong.VersionFlag `name:"version" help:"Print the version and exit."`

	Server         []string      `placeholder:"URL" help:"${help_server}"`
	Key            []string      `placeholder:"KEY" help:"${help_key}"`
	KeyFile        string        `placeholder:"PATH" help:"${help_key_file}"`
	ServerCA       string        `name:"server-ca" placeholder:"PATH" help:"${help_server_ca}"`
	ClientCert     string        `placeholder:"PATH" help:"${help_client_cert}"`
	ClientKey      string        `placeholder:"PATH" help:"The key of --client-cert. PAYLATCH_CLIENT_KEY."`
	AttemptTimeout time.Duration `default:"5s" help:"Bound the time of one request."`
	RetryFor       time.Duration `default:"30s" help:"Bound the time of one call with all its retries."`

	Simulate simulateCommand `cmd:"" help:"${help_simulate}"`
	Create   createCommand   `cmd:"" help:"Make one payment."`
	Get      getCommand      `cmd:"" help:"Print a payment, by its id or by its idempotency key."`
	Load     loadCommand     `cmd:"" help:"${help_load}"`
	Audit    auditCommand    `cmd:"" help:"Compare the journal of a load with the service and the topic."`
	Version  versionCommand  `cmd:"" help:"Print the version, the commit and the version of Go."`
}

// Validate refuses what client.New would take as the default.
func (f *commandLine) Validate() error {
	if f.AttemptTimeout <= 0 || f.RetryFor <= 0 {
		return errors.New("--attempt-timeout and --retry-for must be above 0")
	}
	return nil
}

// session is what a command works with.
type session struct {
	ctx            context.Context
	args           []string
	flags          *commandLine
	env            func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
	// terminal is standard error if that is a terminal, and otherwise nil.
	terminal io.Writer
}

// client returns a client of one tenant for a number of requests at once. The caller closes it.
func (s *session) client(connections int) (*client.Client, error) {
	clients, err := s.clients(client.Config{Connections: connections})
	if err != nil {
		return nil, err
	}
	if len(clients) > 1 {
		clients[0].Close()
		return nil, &usageError{fmt.Errorf("key: %d API keys are given to a command for one tenant", len(clients))}
	}
	return clients[0], nil
}

// clients returns one for each tenant, with the given limits. They share their connections; the
// caller closes the first.
func (s *session) clients(limits client.Config) ([]*client.Client, error) {
	keys, err := s.keys()
	if err != nil {
		return nil, &usageError{err}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(keys)))) != len(keys) {
		return nil, &usageError{errors.New("key: an API key is given twice")}
	}
	limits.TLS, err = s.tls()
	if err != nil {
		return nil, &usageError{err}
	}
	limits.Servers, limits.APIKey = s.servers(), keys[0]
	limits.AttemptTimeout, limits.RetryFor = s.flags.AttemptTimeout, s.flags.RetryFor
	first, err := client.New(limits)
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

// tls returns how https servers are verified, and the certificate that they are shown. The files
// are read once.
func (s *session) tls() (*tls.Config, error) {
	ca := cmp.Or(s.flags.ServerCA, s.env("PAYLATCH_SERVER_CA"))
	pair := tlsfile.Pair{
		Cert: cmp.Or(s.flags.ClientCert, s.env("PAYLATCH_CLIENT_CERT")),
		Key:  cmp.Or(s.flags.ClientKey, s.env("PAYLATCH_CLIENT_KEY")),
	}
	side, err := tlsfile.NewClient(ca, pair)
	if err != nil {
		return nil, fmt.Errorf("--server-ca, --client-cert, --client-key: %w", err)
	}
	return side.Config(), nil
}

// keyFileBytesMax bounds a file of API keys: room for a thousand.
const keyFileBytesMax = 64 << 10

// keys returns the API keys, from flag, environment or file. They must be in one of them: which one
// counts would be a guess otherwise. An empty key stands for none; client.New refuses it.
func (s *session) keys() ([]string, error) {
	keys := s.listed(s.flags.Key, "PAYLATCH_API_KEY", "")
	path := cmp.Or(s.flags.KeyFile, s.env("PAYLATCH_API_KEY_FILE"))
	if path == "" {
		return keys, nil
	}
	if keys[0] != "" {
		return nil, errors.New("an API key (--key, PAYLATCH_API_KEY) and a file of API keys " +
			"(--key-file, PAYLATCH_API_KEY_FILE) are given: give one of them")
	}
	content, err := secretfile.Read(path, keyFileBytesMax)
	if err != nil {
		return nil, fmt.Errorf("--key-file (PAYLATCH_API_KEY_FILE): %w", err)
	}
	return strings.Fields(string(content)), nil
}

func (s *session) servers() []string {
	return s.listed(s.flags.Server, "PAYLATCH_SERVER", defaultServer)
}

// listed returns the value of a flag, or the list in the environment, or a default.
func (s *session) listed(flag []string, variable, otherwise string) []string {
	if len(flag) > 0 {
		return flag
	}
	return strings.Split(cmp.Or(s.env(variable), otherwise), ",")
}

// topic returns where payments become visible, or nil if no brokers are given.
func (s *session) topic(f kafkaFlags) (*journal.Topic, error) {
	if len(f.KafkaBrokers) == 0 {
		return nil, nil
	}
	if faults := f.faults(); len(faults) > 0 {
		return nil, &usageError{errors.New(strings.Join(faults, "; "))}
	}
	access, err := f.KafkaAccess()
	if err != nil {
		return nil, &usageError{err}
	}
	return &journal.Topic{Brokers: access, Name: cmp.Or(f.Topic, s.env("PAYLATCH_TOPIC"), defaultTopic)}, nil
}

// kafkaFlags name the topic, and say how to connect to its brokers. The settings are those of
// paylatch, with the same variables.
type kafkaFlags struct {
	brokers.Settings
	Topic string `placeholder:"NAME" help:"Topic of the payments. PAYLATCH_TOPIC, otherwise payments."`
}

// faults returns all that is wrong with the settings.
func (f *kafkaFlags) faults() []string {
	faults := f.Faults()
	for flag, twice := range map[string]bool{
		"kafka-sasl-password":       f.KafkaSASLPassword != "" && f.KafkaSASLPasswordFile.IsGiven(),
		"kafka-oauth-client-secret": f.KafkaOAuthClientSecret != "" && f.KafkaOAuthSecretFile.IsGiven(),
	} {
		if twice {
			faults = append(faults, fmt.Sprintf("--%s and --%s-file: give one of them", flag, flag))
		}
	}
	return faults
}

// print writes a value as indented JSON and a newline to standard output, which has nothing else.
func (s *session) print(v any) error {
	e := json.NewEncoder(s.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// wait calls f, which waits for payments to be sent, and shows on a terminal that it does. With a
// limit of 0 it does not wait.
func (s *session) wait(limit time.Duration, f func() error) error {
	if limit == 0 {
		return f()
	}
	defer progress.Start(s.ctx, s.terminal, func(elapsed time.Duration) string {
		return fmt.Sprintf("%s %v of at most %v: waiting until it is sent",
			progress.Bar(elapsed, limit), elapsed.Truncate(time.Second), limit)
	})()
	return f()
}

// note prints a line for people. Programs read standard output.
func (s *session) note(format string, args ...any) {
	fmt.Fprintf(s.stderr, "payclient: "+format+"\n", args...)
}
