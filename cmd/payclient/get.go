package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/client"
)

type getCommand struct {
	ID             string        `arg:"" optional:"" help:"Id of the payment."`
	IdempotencyKey string        `placeholder:"KEY" help:"Find the payment by the key it was made with."`
	Wait           time.Duration `help:"Wait until it is sent, at most this long, such as 10s."`
}

// Validate checks that the payment is named in one way.
func (cmd *getCommand) Validate() error {
	if (cmd.ID == "") == (cmd.IdempotencyKey == "") {
		return errors.New("either an id or --idempotency-key")
	}
	if cmd.Wait < 0 {
		return errors.New("--wait must not be negative")
	}
	return nil
}

// Run prints the payment. With --wait it fails if the payment is not sent by then.
func (cmd *getCommand) Run(s *session) error {
	c, err := s.client(1)
	if err != nil {
		return err
	}
	defer c.Close()
	var p client.Payment
	err = s.wait(cmd.Wait, func() error {
		p, err = cmd.find(s, c)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.print(p); err != nil {
		return err
	}
	if cmd.Wait > 0 && !p.Sent() {
		return fmt.Errorf("not sent within %v", cmd.Wait)
	}
	return nil
}

func (cmd *getCommand) find(s *session, c *client.Client) (client.Payment, error) {
	if cmd.ID != "" {
		return c.Wait(s.ctx, cmd.ID, cmd.Wait)
	}
	p, err := c.FindByKey(s.ctx, cmd.IdempotencyKey)
	if err != nil || p.Sent() || cmd.Wait == 0 {
		return p, err
	}
	return c.Wait(s.ctx, p.ID, cmd.Wait)
}
