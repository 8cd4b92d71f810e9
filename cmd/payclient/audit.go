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
	Journal string        `required:"" placeholder:"FILE" help:"Journal that payclient load --journal has written."`
	Kafka   kafkaFlags    `embed:""`
	Wait    time.Duration `default:"30s" help:"How long, in all, to wait for payments that are not sent yet."`
	JSON    bool          `name:"json" help:"Print the report as JSON."`
}

// Validate checks the bounds before anything is sent.
func (cmd *auditCommand) Validate() error {
	if cmd.Wait < 0 {
		return errors.New("--wait must not be negative")
	}
	return nil
}

// Run succeeds only without findings.
func (cmd *auditCommand) Run(s *session) error {
	topic, err := s.topic(cmd.Kafka)
	if err != nil {
		return err
	}
	if topic == nil {
		return &usageError{errors.New("--kafka-brokers is needed: half of an audit is about the topic")}
	}
	clients, err := s.clients(client.Config{Connections: journal.AuditConnections})
	if err != nil {
		return err
	}
	defer clients[0].Close()
	report, err := auditJournal(s, clients, cmd.Journal, journal.AuditConfig{Topic: *topic, Wait: cmd.Wait})
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

// auditJournal audits a journal and shows the progress.
func auditJournal(
	s *session, clients []*client.Client, path string, cfg journal.AuditConfig,
) (journal.Report, error) {
	file, err := os.Open(path) //nolint:gosec // G304: the caller names the file.
	if err != nil {
		return journal.Report{}, &usageError{fmt.Errorf("--journal: %w", err)}
	}
	defer file.Close()
	cfg.Progress = s.terminal
	return journal.Audit(s.ctx, clients, file, cfg)
}
