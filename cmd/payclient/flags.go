package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/payclient"
)

const defaultServer = "http://127.0.0.1:8080"

// description is printed as it stands.
const description = `The client of Paylatch: makes payments over HTTP and shows what becomes of them.

Examples:
  export PAYLATCH_API_KEY=pl_…

  payclient simulate -n 12                   made-up payments, each followed until it is in Kafka
  payclient load --workers 32 --duration 1m  writes and reads, with percentiles
  payclient create --json payment.json       one payment; "-" reads it from standard input
  payclient get 0198c5e4-… --wait 10s        where is it? waits until it is sent
  payclient get --idempotency-key K          was it taken? for a create whose answer was lost

  payclient --server http://10.0.0.1:8080,http://10.0.0.2:8080 simulate
                                             several replicas: in turn, and on failure the next

Every create carries an idempotency key and is sent again with the same one, so that no retry makes a second payment.

Exit codes: 0 done · 1 refused or failed · 2 wrong usage · 3 outcome unknown: look the key up`

// commandLine is all that can be said on it. What has a variable in the environment is told by its help, and read
// through the env handed to run.
type commandLine struct {
	Server         []string      `placeholder:"URL" help:"Base address of a replica; may be repeated or comma-separated. PAYLATCH_SERVER, otherwise http://127.0.0.1:8080."`
	Key            string        `placeholder:"KEY" help:"API key of the tenant. Better in PAYLATCH_API_KEY: other users of this machine can see flags."`
	AttemptTimeout time.Duration `default:"5s" help:"How long one request may take."`
	RetryFor       time.Duration `default:"30s" help:"How long one call may take with all its retries."`

	Simulate simulateCommand `cmd:"" help:"Make plausible payments, follow each until it is sent, and print where it went."`
	Create   createCommand   `cmd:"" help:"Make one payment."`
	Get      getCommand      `cmd:"" help:"Show a payment, by its id or by its idempotency key."`
	Load     loadCommand     `cmd:"" help:"Make payments and read them as fast as the answers come, and measure it."`
}

// Validate refuses what payclient.New would take for "the default".
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

// client is made for so many requests at once. The caller closes it.
func (s *session) client(connections int) (*payclient.Client, error) {
	servers, key := s.flags.Server, s.flags.Key
	if list := s.env("PAYLATCH_SERVER"); len(servers) == 0 && list != "" {
		servers = strings.Split(list, ",")
	}
	if len(servers) == 0 {
		servers = []string{defaultServer}
	}
	if key == "" {
		key = s.env("PAYLATCH_API_KEY")
	}
	c, err := payclient.New(payclient.Config{
		Servers:        servers,
		Key:            key,
		AttemptTimeout: s.flags.AttemptTimeout,
		RetryFor:       s.flags.RetryFor,
		Connections:    connections,
	})
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
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
