package app

import (
	"context"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// The cause of a database that is away is logged again, more and more seldom.
	databaseRetryMin = time.Second
	databaseRetryMax = time.Minute
)

// awaitDatabase waits for the database, and logs why it waits. A database on which this program
// does not work is an error: only an operator can change that. Requests are served at the same
// time, with 503.
func (s *Service) awaitDatabase(ctx context.Context) error {
	for retry := databaseRetryMin; ; retry = min(2*retry, databaseRetryMax) {
		err := s.store.Ping(ctx)
		if err == nil && s.server != nil {
			err = s.store.TryPrivileges(ctx, store.RoleAPI)
		}
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if store.IsRefused(err) {
			return err
		}
		s.logger.Warn("waiting for database", "error", err, "retry_in", retry)
		_ = sleep.For(ctx, retry) // The next Ping sees if ctx ended.
	}
}
