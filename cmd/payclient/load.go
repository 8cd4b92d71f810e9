package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/loadtest"
)

const (
	// defaultLoad is how long a load lasts when nothing else ends it.
	defaultLoad = 10 * time.Second
	// defaultWorkers keep a small service busy.
	defaultWorkers = 16
)

type loadCommand struct {
	Rate     string        `placeholder:"R[,R…]" help:"Open model: payments due per second, such as 200/s, 90/m, or 100,200,400 for steps; the reads come on top. Latencies count from when a request was due."`
	Step     time.Duration `help:"How long each rate lasts; with one rate, --duration."`
	InFlight *int          `placeholder:"N" help:"With --rate: how many requests may be under way, 1000 unless given; what is due beyond is counted and not sent."`
	Workers  *int          `placeholder:"N" help:"Closed loop, when no --rate is given: so many clients, 16 unless given, each waits for its answer."`
	Duration time.Duration `help:"How long; 10s unless --count is given."`
	Count    int64         `placeholder:"N" help:"Stop after so many payments."`
	Reads    int           `default:"10" help:"Status reads for each payment."`
	Accounts int           `default:"10000" help:"How many account holders pay each other."`
	Retry    bool          `default:"true" negatable:"" help:"Send again what is unavailable, too many or lost, as clients do."`

	Kafka  kafkaFlags    `embed:""`
	Settle time.Duration `default:"30s" help:"With --kafka-brokers: how long to wait, after the load, for payments that are not visible yet."`

	SLO     []string `name:"slo" placeholder:"OBJECTIVE" help:"A latency that must hold, or the exit code is 4: p99=50ms for create and status, create.p99.9=80ms, status.p95=5ms, end_to_end.p99=200ms; p50 p90 p95 p99 p99.9 max. May be repeated or comma-separated."`
	Journal string   `placeholder:"FILE" help:"Keep every key, before it is sent, and every answer, at the end of this file: for audit."`
	HTML    string   `name:"html" placeholder:"FILE" help:"Write the report with plots, as one page."`
	JSON    bool     `name:"json" help:"Print the report as JSON; durations in nanoseconds."`

	objectives []loadtest.Objective
	steps      []loadtest.Step
}

// Validate knows the bounds before anybody is contacted.
func (cmd *loadCommand) Validate() error {
	if cmd.Duration < 0 || cmd.Count < 0 || cmd.Reads < 0 || cmd.Step < 0 || cmd.Settle < 0 {
		return errors.New("--duration, --count, --reads, --step and --settle must not be negative")
	}
	if cmd.Accounts < 2 || cmd.Accounts > loadtest.AccountsMax {
		return fmt.Errorf("--accounts must be within 2 and %d", loadtest.AccountsMax)
	}
	for flag, n := range map[string]*int{"--workers": cmd.Workers, "--in-flight": cmd.InFlight} {
		if n != nil && (*n < 1 || *n > loadtest.LoadWorkersMax) {
			return fmt.Errorf("%s must be within 1 and %d", flag, loadtest.LoadWorkersMax)
		}
	}
	for _, text := range cmd.SLO {
		o, err := loadtest.ParseObjective(text)
		if err != nil {
			return fmt.Errorf("--%w", err)
		}
		cmd.objectives = append(cmd.objectives, o)
	}
	if cmd.Rate == "" {
		if cmd.Step > 0 || cmd.InFlight != nil {
			return errors.New("--step and --in-flight belong to --rate")
		}
		return nil
	}
	if cmd.Workers != nil {
		return errors.New("either --rate, an open load, or --workers, a closed loop")
	}
	return cmd.plan()
}

// plan makes steps of the rates.
func (cmd *loadCommand) plan() error {
	rates, err := loadtest.ParseRates(cmd.Rate)
	if err != nil {
		return fmt.Errorf("--%w", err)
	}
	each := cmd.Step
	switch {
	case each > 0 && cmd.Duration > 0:
		return errors.New("--step says how long each rate lasts, so that --duration cannot be given as well")
	case each == 0 && len(rates) > 1:
		return errors.New("several rates need --step, how long each lasts")
	case each == 0 && cmd.Duration > 0:
		each = cmd.Duration
	case each == 0 && cmd.Count > 0:
		// One request more than there are: the count ends it.
		seconds := float64(cmd.Count+1) / rates[0]
		each = time.Duration(min(seconds*float64(time.Second), math.MaxInt64/2))
	case each == 0:
		each = defaultLoad
	}
	for _, r := range rates {
		cmd.steps = append(cmd.steps, loadtest.Step{Rate: r, For: each})
	}
	return nil
}

// config is the load without what must be opened.
func (cmd *loadCommand) config(s *session) loadtest.Config {
	cfg := loadtest.Config{
		Steps: cmd.steps, Count: cmd.Count, Reads: cmd.Reads, Accounts: cmd.Accounts, Grace: s.flags.AttemptTimeout,
		Topic: s.topic(cmd.Kafka), Settle: cmd.Settle, Progress: terminal(s.stderr),
	}
	if len(cfg.Steps) > 0 {
		cfg.InFlight = loadtest.InFlightDefault
		if cmd.InFlight != nil {
			cfg.InFlight = *cmd.InFlight
		}
		return cfg
	}
	cfg.Workers, cfg.Duration = defaultWorkers, cmd.Duration
	if cmd.Workers != nil {
		cfg.Workers = *cmd.Workers
	}
	if cfg.Duration == 0 && cfg.Count == 0 {
		cfg.Duration = defaultLoad
	}
	return cfg
}

// Run prints the report also when the load was refused or interrupted: what was measured until then stays true.
func (cmd *loadCommand) Run(s *session) (err error) {
	cfg := cmd.config(s)
	for _, o := range cmd.objectives {
		if o.EndToEnd() && cfg.Topic == nil {
			return &usageError{errors.New("--slo end_to_end… needs --kafka-brokers: without them it is not measured")}
		}
	}
	limits := client.Config{Connections: max(cfg.Workers, cfg.InFlight)}
	if !cmd.Retry {
		limits.AttemptsMax = 1
	}
	clients, err := s.clients(limits)
	if err != nil {
		return err
	}
	defer clients[0].Close()
	if cmd.Journal != "" {
		if cfg.Journal, err = journal.Open(cmd.Journal); err != nil {
			return &usageError{err}
		}
		defer func() { err = errors.Join(err, cfg.Journal.Close()) }()
	}
	report, loadErr := loadtest.Run(s.ctx, clients, cfg)
	if report.Mode == "" {
		return loadErr // It has not begun.
	}
	report.Verdicts = report.Judge(cmd.objectives)
	if err := cmd.write(s, report); err != nil {
		return errors.Join(err, loadErr)
	}
	return end(report, loadErr)
}

// end is the worst of what happened: unknown before failed before slow.
func end(r loadtest.Report, loadErr error) error {
	var missed []error
	for _, v := range r.Verdicts {
		if !v.Met {
			missed = append(missed, fmt.Errorf("%w: %v", errMissed, v))
		}
	}
	slow, failed := errors.Join(missed...), r.Failed()
	switch {
	case r.Writes.Unknown > 0:
		return errors.Join(errSomeUnknown, loadErr, slow)
	case loadErr != nil:
		return errors.Join(loadErr, notCode(slow))
	case failed != "":
		return errors.Join(errors.New(failed), notCode(slow))
	}
	return slow
}

// notCode keeps the words and not the exit code: something worse has one.
func notCode(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}

func (cmd *loadCommand) write(s *session, r loadtest.Report) error {
	if cmd.HTML != "" {
		if err := writeFile(cmd.HTML, r.WriteHTML); err != nil {
			return err
		}
	}
	if cmd.JSON {
		return s.print(r)
	}
	return r.Write(s.stdout)
}

// writeFile makes a file anew.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path) //nolint:gosec // G304: the file is the caller's to name
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// terminal is w when a person watches it; a file or a pipe gets no moving line.
func terminal(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}
