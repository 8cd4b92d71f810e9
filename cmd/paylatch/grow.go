package main

import (
	"context"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/store"
)

type partitionsGrowCommand struct {
	app.DatabaseSettings
	app.KafkaSettings
	Partitions   int32         `arg:"" help:"How many the topic has from then on, at most 1000."`
	DrainTimeout time.Duration `default:"30s" help:"How long the intake stays closed, at most, until all that waits is sent."`
}

// Run adds partitions.
func (c *partitionsGrowCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithClients(ctx, c.DatabaseSettings, c.KafkaSettings, func(s *store.Store, k *kafka.Cluster) error {
		closed, err := showing(ctx, out, "adding partitions", func() (time.Duration, error) {
			return operator.GrowPartitions(ctx, s, k, c.Partitions, c.DrainTimeout)
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out.Stdout, "the topic has %d partitions; the intake was closed for %s\n",
			c.Partitions, closed.Round(time.Millisecond))
		return err
	})
}
