package main

import (
	"context"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// withStoreAndCluster runs one operator's command against the database and the brokers.
func withStoreAndCluster(ctx context.Context, d databaseSettings, k kafkaSettings, work func(*store.Store, *kafka.Cluster) error) error {
	var check checker
	url := check.databaseURL(d.DatabaseURL)
	brokers := check.brokers(k.KafkaBrokers)
	if err := check.err(); err != nil {
		return err
	}
	return withParts(ctx, url, brokers, work)
}

// withParts opens store and cluster for a piece of work.
func withParts(ctx context.Context, databaseURL string, brokers []string, work func(*store.Store, *kafka.Cluster) error) error {
	cluster, err := kafka.NewCluster(brokers)
	if err != nil {
		return err
	}
	defer cluster.Close()
	return withDatabase(ctx, databaseURL, func(s *store.Store) error { return work(s, cluster) })
}

// withDatabase opens the store for a piece of work that does one thing after the other.
func withDatabase(ctx context.Context, url string, work func(*store.Store) error) error {
	const connections = 3 // One for the work, one for what it tells the senders, one for slow commits.
	s, err := store.Open(ctx, url, connections)
	if err != nil {
		return err
	}
	defer s.Close()
	return work(s)
}

// withStore runs one operator's command against the database.
func withStore(ctx context.Context, d databaseSettings, work func(*store.Store) error) error {
	var check checker
	url := check.databaseURL(d.DatabaseURL)
	if err := check.err(); err != nil {
		return err
	}
	return withDatabase(ctx, url, work)
}
