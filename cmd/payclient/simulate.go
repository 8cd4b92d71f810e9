package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/loadtest"
)

type simulateCommand struct {
	Payments int           `short:"n" default:"12" help:"How many payments."`
	Wait     time.Duration `default:"30s" help:"How long each may take to be sent."`
}

// Validate knows the bounds before anybody is contacted.
func (cmd *simulateCommand) Validate() error {
	if cmd.Payments < 1 || cmd.Payments > loadtest.SimulateMax {
		return fmt.Errorf("-n must be within 1 and %d", loadtest.SimulateMax)
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
	return loadtest.SimulateWithin(s.ctx, c, cmd.Payments, cmd.Wait, s.stdout)
}
