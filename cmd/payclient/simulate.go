package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/loadtest"
)

type simulateCommand struct {
	Payments int           `short:"n" default:"12" help:"Number of payments."`
	Wait     time.Duration `default:"30s" help:"How long to wait until each is sent."`
}

// Validate checks the bounds before anything is sent.
func (cmd *simulateCommand) Validate() error {
	if cmd.Payments < 1 || cmd.Payments > loadtest.SimulateMax {
		return fmt.Errorf("-n must be from 1 to %d", loadtest.SimulateMax)
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
	var table bytes.Buffer
	err = s.wait(cmd.Wait, func() error {
		return loadtest.SimulateWithin(s.ctx, c, cmd.Payments, cmd.Wait, &table)
	})
	_, writeErr := table.WriteTo(s.stdout)
	return errors.Join(err, writeErr)
}
