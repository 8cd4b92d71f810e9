package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/paylatch/paylatch/internal/payclient"
)

// defaultLoad is how long a load lasts when nothing else ends it.
const defaultLoad = 10 * time.Second

type simulateCommand struct {
	Payments int           `short:"n" default:"12" help:"How many payments."`
	Wait     time.Duration `default:"30s" help:"How long each may take to be sent."`
}

// Validate knows the bounds before anybody is contacted.
func (cmd *simulateCommand) Validate() error {
	if cmd.Payments < 1 || cmd.Payments > payclient.SimulateMax {
		return fmt.Errorf("-n must be within 1 and %d", payclient.SimulateMax)
	}
	if cmd.Wait <= 0 {
		return errors.New("--wait must be above 0")
	}
	return nil
}

// Run prints a table with a line for each payment.
func (cmd *simulateCommand) Run(s *session) error {
	c, err := s.client(cmd.Payments)
	if err != nil {
		return err
	}
	defer c.Close()
	return payclient.SimulateWithin(s.ctx, c, cmd.Payments, cmd.Wait, s.stdout)
}

type loadCommand struct {
	Workers  int           `default:"16" help:"How many requests in flight."`
	Duration time.Duration `help:"How long; 10s unless --count is given."`
	Count    int64         `placeholder:"N" help:"Stop after so many payments."`
	Reads    int           `default:"10" help:"Status reads for each payment."`
	JSON     bool          `name:"json" help:"Print the report as JSON; durations in nanoseconds."`
}

// Validate knows the bounds before anybody is contacted.
func (cmd *loadCommand) Validate() error {
	if cmd.Workers < 1 || cmd.Workers > payclient.LoadWorkersMax {
		return fmt.Errorf("--workers must be within 1 and %d", payclient.LoadWorkersMax)
	}
	if cmd.Duration < 0 || cmd.Count < 0 || cmd.Reads < 0 {
		return errors.New("--duration, --count and --reads must not be negative")
	}
	return nil
}

// Run prints the report also when the load was refused or interrupted: what was measured until then stays true.
func (cmd *loadCommand) Run(s *session) error {
	c, err := s.client(cmd.Workers)
	if err != nil {
		return err
	}
	defer c.Close()
	cfg := payclient.LoadConfig{Workers: cmd.Workers, Duration: cmd.Duration, Count: cmd.Count, Reads: cmd.Reads, Progress: terminal(s.stderr)}
	if cfg.Duration == 0 && cfg.Count == 0 {
		cfg.Duration = defaultLoad
	}
	report, loadErr := payclient.Load(s.ctx, c, cfg)
	if err := cmd.write(s, report); err != nil {
		return err
	}
	switch {
	case report.Writes.Unknown > 0:
		return errors.Join(errSomeUnknown, loadErr)
	case loadErr != nil:
		return loadErr
	case report.Writes.Failed+report.Reads.Failed > 0:
		return fmt.Errorf("%d writes and %d reads failed", report.Writes.Failed, report.Reads.Failed)
	}
	return nil
}

func (cmd *loadCommand) write(s *session, r payclient.Report) error {
	if cmd.JSON {
		return s.print(r)
	}
	return r.Write(s.stdout)
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
