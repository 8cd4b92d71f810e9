package main

import (
	"context"
	"errors"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/doctor"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

type doctorCommand struct {
	app.DatabaseSettings
	app.KafkaSettings
	DatabaseConnections app.Connections `env:"PAYLATCH_DATABASE_CONNECTIONS" default:"16" help:"Pooled connections that each process has at most."`
	Replicas            int             `default:"0" help:"How many processes run the service, to count connections; 0 is as many as senders are registered."`
	JSON                bool            `name:"json" help:"Print the report as JSON."`
}

// Help is printed by doctor --help.
func (c *doctorCommand) Help() string {
	return `Connects to the database and to the brokers as a sender does. It prints one line for each thing that the
guarantees depend on (yes, no, or unknown) and what is lost without it. It changes no payment, no log and no
transaction; it draws a few numbers of the payments' sequence.

Exit codes: 0 exactly once can hold; 1 it cannot; 2 wrong usage; 3 unknown, since a server does not respond or
does not let this role or principal look.`
}

// errNotExactlyOnce makes doctor fail; the report says why.
var errNotExactlyOnce = errors.New("exactly once cannot hold")

// unknownError makes doctor fail with an exit code of its own; the report says why.
type unknownError struct{}

func (unknownError) Error() string { return "it is unknown whether exactly once can hold" }

// ExitCode implements cli.ExitCoder.
func (unknownError) ExitCode() int { return 3 }

// Run examines the installation.
func (c *doctorCommand) Run(ctx context.Context, out cli.Output) error {
	access, err := c.KafkaAccess()
	if err != nil {
		return err
	}
	cluster, err := kafka.NewCluster(access)
	if err != nil {
		return err
	}
	defer cluster.Close()
	report, err := showing(ctx, out, "examining", func() (doctor.Report, error) {
		return doctor.Examine(ctx, doctor.Installation{
			Connect: func(ctx context.Context) (*store.Examination, error) {
				return store.Examine(ctx, string(c.URL()), store.WithAccess(c.Access()))
			},
			Cluster: cluster, KafkaTLS: access.TLS != nil, KafkaProtection: access.Protection(),
			Replicas: c.Replicas, Connections: int(c.DatabaseConnections),
		}), nil
	})
	if err != nil {
		return err
	}
	write := report.WriteText
	if c.JSON {
		write = report.WriteJSON
	}
	if err := write(out.Stdout); err != nil {
		return err
	}
	switch report.ExactlyOnce {
	case doctor.VerdictNo:
		return errNotExactlyOnce
	case doctor.VerdictUnknown:
		return unknownError{}
	}
	return nil
}
