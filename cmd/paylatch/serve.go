package main

import (
	"context"
	"io"
	"log/slog"
)

type serveCommand struct {
	databaseSettings
	kafkaSettings
	apiSettings
	senderSettings
	processSettings
	logSettings
}

// Run takes and sends payments until ctx ends.
func (c *serveCommand) Run(ctx context.Context, out outlet) error {
	var check checker
	config := check.process(c.processSettings, c.databaseSettings, c.logSettings)
	check.api(c.apiSettings, &config)
	check.sender(c.senderSettings, c.kafkaSettings, &config)
	return serve(ctx, config, check, out)
}

type apiCommand struct {
	databaseSettings
	apiSettings
	processSettings
	logSettings
}

// Run takes payments until ctx ends.
func (c *apiCommand) Run(ctx context.Context, out outlet) error {
	var check checker
	config := check.process(c.processSettings, c.databaseSettings, c.logSettings)
	check.api(c.apiSettings, &config)
	return serve(ctx, config, check, out)
}

type senderCommand struct {
	databaseSettings
	kafkaSettings
	senderSettings
	processSettings
	logSettings
}

// Run sends payments until ctx ends.
func (c *senderCommand) Run(ctx context.Context, out outlet) error {
	var check checker
	config := check.process(c.processSettings, c.databaseSettings, c.logSettings)
	check.sender(c.senderSettings, c.kafkaSettings, &config)
	return serve(ctx, config, check, out)
}

// serve runs a service of the configuration, if it is right.
func serve(ctx context.Context, c config, check checker, out outlet) error {
	if err := check.err(); err != nil {
		return err
	}
	logger := newLogger(out.stderr, c.logLevel)
	logger.Info("starting", "config", c)
	s, err := newService(ctx, c, 1, logger)
	if err != nil {
		return err
	}
	logger.Info("started", "api", s.apiURL(), "admin", s.adminURL())
	return s.run(ctx)
}

func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}
