package app

import (
	"context"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// WithStore opens the store, calls work, and closes the store. It is for operators' commands, which
// do one thing after the other. If the database role may not do it, the error names what is
// missing.
func WithStore(ctx context.Context, database DatabaseSettings, work func(*store.Store) error) error {
	const connections = 3 // One for the work, one for notifications of the senders, one for slow commits.
	s, err := store.Open(ctx, string(database.URL()), connections, store.WithAccess(database.Access()))
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Explain(ctx, work(s), store.RoleOperator)
}

// WithClients is like WithStore, with a client of the brokers.
func WithClients(
	ctx context.Context, database DatabaseSettings, brokers KafkaSettings,
	work func(*store.Store, *kafka.Cluster) error,
) error {
	access, err := brokers.KafkaAccess()
	if err != nil {
		return err
	}
	cluster, err := kafka.NewCluster(access)
	if err != nil {
		return err
	}
	defer cluster.Close()
	return WithStore(ctx, database, func(s *store.Store) error { return work(s, cluster) })
}
