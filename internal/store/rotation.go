package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// passwordPatience is how long a request waits for a password that the server accepts: between
	// `alter role` and the new content of the file, a new connection is refused. It is below
	// stepTimeout.
	passwordPatience = 3 * time.Second
	// passwordRetry is the time between two attempts.
	passwordRetry = 100 * time.Millisecond
)

// rotation remembers since when the server has refused the password. Once passwordPatience is over,
// requests fail at once until a connection succeeds. Safe for concurrent use.
type rotation struct {
	mu    sync.Mutex
	since time.Time
}

// accepted notes that a new connection got in.
func (r *rotation) accepted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = time.Time{}
}

// mayEnd reports whether err is a refused password that may be about to change.
func (r *rotation) mayEnd(err error) bool {
	const invalidPassword = "28P01"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != invalidPassword {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		r.since = time.Now()
	}
	return time.Since(r.since) < passwordPatience
}

// take takes a connection from the pool. It waits while a password is being changed.
func (s *Store) take(ctx context.Context) (*pgxpool.Conn, error) {
	for {
		conn, err := s.pool.Acquire(ctx)
		if err == nil || !s.rotation.mayEnd(err) {
			return conn, translate(err)
		}
		select {
		case <-ctx.Done():
			return nil, translate(err)
		case <-time.After(passwordRetry):
		}
	}
}
