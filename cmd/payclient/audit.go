package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
)

type auditCommand struct {
	Journal string        `required:"" placeholder:"FILE" help:"What payclient load --journal has kept."`
	Kafka   kafkaFlags    `embed:""`
	Wait    time.Duration `default:"30s" help:"How long, in all, to wait for payments that are still to be sent."`
	JSON    bool          `name:"json" help:"Print the report as JSON."`
}

// Validate knows the bounds before anybody is contacted.
func (cmd *auditCommand) Validate() error {
	if cmd.Wait < 0 {
		return errors.New("--wait must not be negative")
	}
	return nil
}

// Run ends well only when all holds.
func (cmd *auditCommand) Run(s *session) error {
	topic := s.topic(cmd.Kafka)
	if topic == nil {
		return &usageError{errors.New("--kafka-brokers is needed: half of what an audit says is about the topic")}
	}
	file, err := os.Open(cmd.Journal)
	if err != nil {
		return &usageError{fmt.Errorf("--journal: %w", err)}
	}
	defer file.Close()
	clients, err := s.clients(client.Config{Connections: journal.AuditConnections})
	if err != nil {
		return err
	}
	defer clients[0].Close()
	report, err := journal.Audit(s.ctx, clients, file, journal.AuditConfig{Topic: *topic, Wait: cmd.Wait})
	if err != nil {
		return err
	}
	if cmd.JSON {
		err = s.print(report)
	} else {
		err = report.Write(s.stdout)
	}
	return errors.Join(err, report.Fault())
}
