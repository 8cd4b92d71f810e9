package loadtest

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/paylatch/paylatch/internal/journal"
)

const (
	// InFlightMax keeps the load generator within the ports and descriptors that a machine usually
	// has.
	InFlightMax = 4096
	// InFlightDefault bears half a second without a response at the peak of five customers, at 35
	// creates and 350 status requests per second each.
	InFlightDefault = 1000
	// graceDefault is the default of client.Config.AttemptTimeout.
	graceDefault = 5 * time.Second
)

// Config configures a load. It ends with its steps, its duration or its count, whichever comes
// first; one of them is needed.
type Config struct {
	// Steps make an open load: each request is sent at its planned time. Without steps the load is
	// a closed loop.
	Steps []Step
	// InFlight bounds the requests in flight of an open load. A request beyond it is dropped.
	InFlight int

	// Workers is the number of workers of a closed loop. Each has one request in flight.
	Workers int
	// Duration ends a closed loop. 0 means that Count does.
	Duration time.Duration

	// Count ends the load after this many payments. 0 means that it does not.
	Count int64
	// Reads is the number of status requests for each payment. They read recent payments of the
	// tenant.
	Reads int
	// Accounts is the number of account holders. The default is 10,000.
	Accounts int
	// Grace is the time for the requests in flight when the load ends. The default is 5 s.
	Grace time.Duration

	// Topic is where payments become visible. If it is nil, end to end is not measured.
	Topic *journal.Topic
	// Settle is how long to wait, after the load, for payments that are not visible yet.
	Settle time.Duration
	// Journal records every key and outcome. It may be nil.
	Journal *journal.Journal
	// Progress is a terminal that shows how far the load is. It may be nil.
	Progress io.Writer
}

func (cfg Config) check(tenants int) error {
	faults := []error{checkSteps(cfg.Steps, cfg.Reads)}
	if tenants == 0 {
		faults = append(faults, errors.New("tenants: at least one is needed"))
	}
	if cfg.Duration < 0 || cfg.Count < 0 || cfg.Reads < 0 || cfg.Settle < 0 || cfg.Grace < 0 {
		faults = append(faults, errors.New("duration, count, reads, settle, grace: none may be negative"))
	}
	if cfg.Accounts != 0 && (cfg.Accounts < 2 || cfg.Accounts > AccountsMax) {
		faults = append(faults, fmt.Errorf("accounts: %d is not from 2 to %d", cfg.Accounts, AccountsMax))
	}
	if cfg.isOpen() {
		return errors.Join(append(faults, cfg.checkOpen())...)
	}
	return errors.Join(append(faults, cfg.checkClosed())...)
}

func (cfg Config) checkOpen() error {
	var faults []error
	if cfg.InFlight < 1 || cfg.InFlight > InFlightMax {
		faults = append(faults, fmt.Errorf("in flight: %d is not from 1 to %d", cfg.InFlight, InFlightMax))
	}
	if cfg.Duration > 0 {
		faults = append(faults, errors.New("duration: the steps of an open load have their own"))
	}
	return errors.Join(faults...)
}

func (cfg Config) checkClosed() error {
	var faults []error
	if cfg.Workers < 1 || cfg.Workers > InFlightMax {
		faults = append(faults, fmt.Errorf("workers: %d is not from 1 to %d", cfg.Workers, InFlightMax))
	}
	if cfg.Duration == 0 && cfg.Count == 0 {
		faults = append(faults, errors.New("duration or count: one is needed"))
	}
	return errors.Join(faults...)
}

func (cfg Config) isOpen() bool { return len(cfg.Steps) > 0 }

// length returns the planned duration of the load, or 0 if it is not known.
func (cfg Config) length() time.Duration {
	if cfg.isOpen() {
		return stepsLength(cfg.Steps)
	}
	return cfg.Duration
}
