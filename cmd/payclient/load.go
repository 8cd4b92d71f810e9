package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/buildinfo"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/loadtest"
)

const (
	// defaultLoad is the duration of a load that nothing else ends.
	defaultLoad = 10 * time.Second
	// defaultWorkers keep a small service busy.
	defaultWorkers = 16
)

type loadCommand struct {
	Rate     string        `placeholder:"R[,R…]" help:"${help_rate}"`
	Step     time.Duration `help:"Duration of each rate; with one rate, --duration."`
	InFlight *int          `placeholder:"N" help:"${help_in_flight}"`
	Workers  *int          `placeholder:"N" help:"${help_workers}"`
	Duration time.Duration `help:"Duration; 10s unless --count is given."`
	Count    int64         `placeholder:"N" help:"Stop after this many payments."`
	Reads    int           `default:"10" help:"Status requests for each payment."`
	Accounts int           `default:"10000" help:"Number of account holders."`
	Retry    bool          `default:"true" negatable:"" help:"Retry requests, as clients do."`

	Kafka  kafkaFlags    `embed:""`
	Settle time.Duration `default:"30s" help:"${help_settle}"`

	SLO     []string `name:"slo" placeholder:"OBJECTIVE" help:"${help_slo}"`
	Journal string   `placeholder:"FILE" help:"${help_journal}"`
	Audit   bool     `help:"${help_audit}"`
	HTML    string   `name:"html" placeholder:"FILE" help:"Write the report with plots, as one page."`
	JSON    bool     `name:"json" help:"Print the report as JSON; durations in nanoseconds."`

	objectives []loadtest.Objective
	steps      []loadtest.Step
}

// Validate checks the bounds before anything is sent.
func (cmd *loadCommand) Validate() error {
	if cmd.Duration < 0 || cmd.Count < 0 || cmd.Reads < 0 || cmd.Step < 0 || cmd.Settle < 0 {
		return errors.New("--duration, --count, --reads, --step and --settle must not be negative")
	}
	if cmd.Accounts < 2 || cmd.Accounts > loadtest.AccountsMax {
		return fmt.Errorf("--accounts must be from 2 to %d", loadtest.AccountsMax)
	}
	err := errors.Join(checkInFlight("--workers", cmd.Workers), checkInFlight("--in-flight", cmd.InFlight))
	if err != nil {
		return err
	}
	for _, text := range cmd.SLO {
		o, err := loadtest.ParseObjective(text)
		if err != nil {
			return fmt.Errorf("--%w", err)
		}
		cmd.objectives = append(cmd.objectives, o)
	}
	switch {
	case cmd.Audit && cmd.Journal == "":
		return errors.New("--audit needs --journal")
	case cmd.Rate == "" && (cmd.Step > 0 || cmd.InFlight != nil):
		return errors.New("--step and --in-flight belong to --rate")
	case cmd.Rate == "":
		return nil
	case cmd.Workers != nil:
		return errors.New("either --rate, an open load, or --workers, a closed loop")
	}
	return cmd.planSteps()
}

func checkInFlight(flag string, n *int) error {
	if n != nil && (*n < 1 || *n > loadtest.InFlightMax) {
		return fmt.Errorf("%s must be from 1 to %d", flag, loadtest.InFlightMax)
	}
	return nil
}

// planSteps sets the steps from the rates.
func (cmd *loadCommand) planSteps() error {
	rates, err := loadtest.ParseRates(cmd.Rate)
	if err != nil {
		return fmt.Errorf("--%w", err)
	}
	each := cmd.Step
	switch {
	case each > 0 && cmd.Duration > 0:
		return errors.New("--step is the duration of each rate, so --duration is not allowed")
	case each == 0 && len(rates) > 1:
		return errors.New("several rates need --step, the duration of each")
	case each == 0 && cmd.Duration > 0:
		each = cmd.Duration
	case each == 0 && cmd.Count > 0:
		// One request more than needed: the count ends the load.
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

// config returns the load without its journal.
func (cmd *loadCommand) config(s *session, topic *journal.Topic) loadtest.Config {
	cfg := loadtest.Config{
		Steps: cmd.steps, Count: cmd.Count, Reads: cmd.Reads, Accounts: cmd.Accounts, Grace: s.flags.AttemptTimeout,
		Topic: topic, Settle: cmd.Settle, Progress: s.terminal,
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

// check reports flags that need --kafka-brokers.
func (cmd *loadCommand) check(cfg loadtest.Config) error {
	if cfg.Topic != nil {
		return nil
	}
	if cmd.Audit {
		return &usageError{errors.New("--audit needs --kafka-brokers: half of it is about the topic")}
	}
	for _, o := range cmd.objectives {
		if o.EndToEnd() {
			return &usageError{errors.New("--slo end_to_end… needs --kafka-brokers: otherwise it is not measured")}
		}
	}
	return nil
}

// Run prints the report also if the load was refused or interrupted: it has what was measured until
// then. All files are opened before the load.
func (cmd *loadCommand) Run(s *session) error {
	topic, err := s.topic(cmd.Kafka)
	if err != nil {
		return err
	}
	cfg := cmd.config(s, topic)
	if err := cmd.check(cfg); err != nil {
		return err
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
	page, err := cmd.openPage()
	if err != nil {
		return &usageError{fmt.Errorf("--html: %w", err)}
	}
	report, loadErr := cmd.load(s, clients, cfg)
	if report.Mode == "" { // It has not begun.
		return errors.Join(loadErr, page.discard())
	}
	auditErr := cmd.audit(s, clients, cfg, &report)
	report.Verdicts = report.Judge(cmd.objectives)
	report.Version, report.Servers, report.Command = buildinfo.Read().String(), s.servers(), commandText(s.args)
	if err := cmd.write(s, report, page); err != nil {
		return errors.Join(err, loadErr, auditErr)
	}
	return result(report, errors.Join(loadErr, auditErr))
}

// openPage returns nil without --html.
func (cmd *loadCommand) openPage() (*output, error) {
	if cmd.HTML == "" {
		return nil, nil
	}
	return openOutput(cmd.HTML)
}

// load runs the load with its journal, which is closed afterwards.
func (cmd *loadCommand) load(s *session, clients []*client.Client, cfg loadtest.Config) (r loadtest.Report, err error) {
	if cmd.Journal != "" {
		cfg.Journal, err = journal.Open(cmd.Journal)
		if err != nil {
			return r, &usageError{err}
		}
		defer func() { err = errors.Join(err, cfg.Journal.Close()) }()
	}
	return loadtest.Run(s.ctx, clients, cfg)
}

// audit adds the audit to the report, if it is wanted.
func (cmd *loadCommand) audit(
	s *session, clients []*client.Client, cfg loadtest.Config, report *loadtest.Report,
) error {
	if !cmd.Audit {
		return nil
	}
	audit, err := auditJournal(s, clients, cmd.Journal, journal.AuditConfig{Topic: *cfg.Topic, Wait: cmd.Settle})
	if err != nil {
		report.AuditError = err.Error()
		return fmt.Errorf("audit: %w", err)
	}
	report.Audit = &audit
	return audit.Fault()
}

func (cmd *loadCommand) write(s *session, r loadtest.Report, page *output) error {
	if page != nil {
		if err := page.write(r.WriteHTML); err != nil {
			return err
		}
	}
	if cmd.JSON {
		return s.print(r)
	}
	return r.Write(s.stdout)
}

// result returns the worst of what happened: unknown before failed before slow.
func result(r loadtest.Report, runErr error) error {
	var missed []error
	for _, v := range r.Verdicts {
		if !v.Met {
			missed = append(missed, fmt.Errorf("%w: %v", errMissed, v))
		}
	}
	slow, failure := errors.Join(missed...), r.Failure()
	switch {
	case r.Create.Unknown > 0:
		return errors.Join(errSomeUnknown, runErr, slow)
	case runErr != nil:
		return errors.Join(runErr, withoutCode(slow))
	case failure != "":
		return errors.Join(errors.New(failure), withoutCode(slow))
	}
	return slow
}

// withoutCode returns an error with the same text and no exit code of its own.
func withoutCode(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}
