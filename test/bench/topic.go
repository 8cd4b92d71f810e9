//go:build linux

package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// deleteTopic gives the broker's disk back.
func (b *bench) deleteTopic(ctx context.Context, name string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.installed.Broker))
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = kadm.NewClient(client).DeleteTopic(ctx, name)
	return err
}
