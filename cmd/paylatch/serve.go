package main

import (
	"context"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/store"
)

type serveCommand struct {
	app.DatabaseSettings
	app.KafkaSettings
	app.APISettings
	app.SenderSettings
	app.ProcessSettings
	app.LogSettings
}

// Faults implements cli.Checker.
func (c *serveCommand) Faults() []string { return deliveryFaults(c.SenderSettings, c.KafkaSettings) }

// Run takes and sends payments until ctx ends.
func (c *serveCommand) Run(ctx context.Context, out cli.Output) error {
	return serve(ctx, out, app.Config{
		DatabaseSettings: c.DatabaseSettings, KafkaSettings: c.KafkaSettings, ProcessSettings: c.ProcessSettings,
		LogSettings: c.LogSettings, API: &c.APISettings, Sender: &c.SenderSettings,
	})
}

// LogsUnknown implements cli.Logger.
func (c *serveCommand) LogsUnknown() {}

type apiCommand struct {
	app.DatabaseSettings
	app.APISettings
	app.ProcessSettings
	app.LogSettings
}

// Run takes payments until ctx ends.
func (c *apiCommand) Run(ctx context.Context, out cli.Output) error {
	return serve(ctx, out, app.Config{
		DatabaseSettings: c.DatabaseSettings, ProcessSettings: c.ProcessSettings, LogSettings: c.LogSettings,
		API: &c.APISettings,
	})
}

// LogsUnknown implements cli.Logger.
func (c *apiCommand) LogsUnknown() {}

type senderCommand struct {
	app.DatabaseSettings
	app.KafkaSettings
	app.SenderSettings
	app.ProcessSettings
	app.LogSettings
}

// Faults implements cli.Checker.
func (c *senderCommand) Faults() []string { return deliveryFaults(c.SenderSettings, c.KafkaSettings) }

// Run sends payments until ctx ends.
func (c *senderCommand) Run(ctx context.Context, out cli.Output) error {
	return serve(ctx, out, app.Config{
		DatabaseSettings: c.DatabaseSettings, KafkaSettings: c.KafkaSettings, ProcessSettings: c.ProcessSettings,
		LogSettings: c.LogSettings, Sender: &c.SenderSettings,
	})
}

// LogsUnknown implements cli.Logger.
func (c *senderCommand) LogsUnknown() {}

// deliveryFaults refuses OAUTHBEARER and AWS_MSK_IAM in locked delivery. Its client, kafka-go, does
// not log in again before a session ends. The batch at that moment would fail with an unknown
// outcome.
func deliveryFaults(s app.SenderSettings, k app.KafkaSettings) []string {
	if store.Delivery(s.Delivery) == store.DeliveryLocked && k.KafkaSASLMechanism.EndsSessions() {
		return []string{"--kafka-sasl-mechanism (PAYLATCH_KAFKA_SASL_MECHANISM): " + string(k.KafkaSASLMechanism) +
			" works with --delivery fenced only; locked can log in by PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512"}
	}
	return nil
}

// serve runs a service until ctx ends.
func serve(ctx context.Context, out cli.Output, c app.Config) error {
	logger := app.NewLogger(out.Stderr, c.LogLevel)
	for _, u := range out.Unknown {
		logger.Warn("unknown variable", "variable", u.Name, "did_you_mean", u.Nearest)
	}
	for _, warning := range out.Warnings {
		logger.Warn("unwise setting", "warning", warning)
	}
	limitMemory(logger, memlimit.FromCgroup)
	logger.Info("starting", "config", c)
	s, err := app.New(ctx, c, logger)
	if err != nil {
		return err
	}
	logger.Info("started", "api", s.URL(), "admin", s.AdminURL())
	return s.Run(ctx)
}
