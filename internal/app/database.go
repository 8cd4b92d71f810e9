package app

import (
	"context"
	"time"

	"github.com/paylatch/paylatch/internal/operator"
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
		var roles []store.Role
		if s.server != nil {
			roles = append(roles, store.RoleAPI)
		}
		err := s.store.Check(ctx, roles...)
		if err == nil && s.server != nil {
			err = s.warnOfDevelopmentKey(ctx)
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

// warnOfDevelopmentKey warns if the development key is live: the whole world knows it.
func (s *Service) warnOfDevelopmentKey(ctx context.Context) error {
	key, err := operator.DevelopmentKey()
	if err != nil {
		return err
	}
	live, err := s.store.HasLiveKey(ctx, key)
	if err == nil && live {
		s.logger.Warn("development key is live: it is public, and works if this is a test installation; " +
			"revoke it where payments are real")
	}
	return err
}
