// Package keycache remembers which API keys are live.
package keycache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/paylatch/paylatch/internal/payment"
)

const (
	// TTL is how long a key is trusted, counted from the start of the query that found it. A
	// revoked key stops working on every replica within it. The contract says 5 s, which leaves 1 s
	// for the request itself. TTL bounds the query, too: a later result is out of date.
	TTL = 4 * time.Second
	// RefreshAfter is the age at which a key that is in use is queried again, in the background.
	// Under load no request waits for the database, as long as it responds within the rest of TTL.
	RefreshAfter = TTL / 2
	// refreshEvery paces these queries while they fail, so that a database that is down is not
	// queried at the rate of the requests.
	refreshEvery = TTL / 8
)

var errClosed = fmt.Errorf("%w: the store is closed", payment.ErrUnavailable)

// Lookup queries the database for the tenant of a key. It returns payment.ErrUnauthorized for a key
// that is unknown or revoked.
type Lookup func(context.Context, payment.APIKeyHash) (payment.Tenant, error)

// Cache remembers live API keys. Other keys are queried each time, since a key may be created at
// any moment. At most one query per key is in progress, however many requests wait for it. Safe for
// concurrent use.
type Cache struct {
	lookup  Lookup
	live    *lru.Cache[payment.APIKeyHash, *liveKey]
	queries singleflight.Group
	// purges counts how often live was emptied.
	purges atomic.Int64

	// ctx is the context of the queries. It ends with Close.
	ctx    context.Context
	cancel context.CancelFunc
	// mu guards closed, so that no query starts once Close waits for them.
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// liveKey is a key that a query found live.
type liveKey struct {
	tenant payment.Tenant
	// queriedAt is when the query started.
	queriedAt time.Time
	// refreshAt is the age, in nanoseconds, at which the key is queried again.
	refreshAt atomic.Int64
}

// result is the result of one query: the tenant of a live key, or an error.
type result struct {
	tenant    payment.Tenant
	queriedAt time.Time
	// purges is how often the cache had been purged when the query started.
	purges int64
	err    error
}

// New returns an empty cache of at most keysMax keys. The caller must Close it.
func New(keysMax int, lookup Lookup) (*Cache, error) {
	live, err := lru.New[payment.APIKeyHash, *liveKey](keysMax)
	if err != nil {
		return nil, fmt.Errorf("key cache: %w", err)
	}
	c := &Cache{lookup: lookup, live: live}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Tenant returns the tenant of a live key. It returns payment.ErrUnauthorized for any other key,
// payment.ErrUnavailable if the database cannot be queried, and context.Canceled if the caller has
// gone. A key that was created before the call is found.
func (c *Cache) Tenant(ctx context.Context, key payment.APIKeyHash) (payment.Tenant, error) {
	began := time.Now()
	if known, ok := c.live.Get(key); ok {
		age := began.Sub(known.queriedAt)
		due := known.refreshAt.Load()
		if age >= time.Duration(due) && known.refreshAt.CompareAndSwap(due, int64(age+refreshEvery)) {
			// No request waits for this result. It replaces or removes the entry, or the entry
			// expires.
			c.query(key)
		}
		if age < TTL {
			return known.tenant, nil
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return payment.Tenant{}, contextError(err)
		}
		select {
		case <-ctx.Done():
			// The query goes on for other requests.
			return payment.Tenant{}, contextError(ctx.Err())
		case r := <-c.query(key):
			res := r.Val.(result)
			if res.purges != c.purges.Load() {
				// The query may have read the former database.
				continue
			}
			if errors.Is(res.err, payment.ErrUnauthorized) && res.queriedAt.Before(began) {
				// The key may have been created after that query and before this request. The next
				// query starts later than both.
				continue
			}
			return res.tenant, res.err
		}
	}
}

// Purge removes all entries. It is called when the database is another one, in which a key may
// belong to another tenant.
func (c *Cache) Purge() {
	c.purges.Add(1)
	c.live.Purge()
}

// Close cancels the queries in progress and waits for them.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
}

// query starts a query for the key, or joins the one in progress that started after the last purge.
func (c *Cache) query(key payment.APIKeyHash) <-chan singleflight.Result {
	purges := c.purges.Load()
	name := binary.BigEndian.AppendUint64(key[:], uint64(purges))
	return c.queries.DoChan(string(name), func() (any, error) {
		if !c.begin() {
			return result{queriedAt: time.Now(), purges: purges, err: errClosed}, nil
		}
		defer c.running.Done()
		return c.load(key, purges), nil
	})
}

// load queries the database, and adds a live key or removes any other. An error changes nothing:
// an entry keeps its age.
func (c *Cache) load(key payment.APIKeyHash, purges int64) result {
	queriedAt := time.Now() // Before the query: a key revoked while it runs must not live longer.
	ctx, cancel := context.WithTimeout(c.ctx, TTL)
	defer cancel()
	tenant, err := c.lookup(ctx, key)
	switch {
	case c.ctx.Err() != nil && err != nil:
		err = errClosed // Not context.Canceled, which would mean that the caller has gone.
	case err == nil && time.Since(queriedAt) >= TTL:
		err = fmt.Errorf("%w: the key was live %s ago", payment.ErrUnavailable, TTL)
	case errors.Is(err, payment.ErrUnauthorized):
		c.live.Remove(key)
	case err == nil && c.purges.Load() == purges: // Otherwise it may come from the former database.
		fresh := &liveKey{tenant: tenant, queriedAt: queriedAt}
		fresh.refreshAt.Store(int64(RefreshAfter))
		c.live.Add(key, fresh)
	}
	if err != nil {
		tenant = payment.Tenant{}
	}
	return result{tenant, queriedAt, purges, err}
}

// begin counts a query that starts, and reports false if the cache is closed.
func (c *Cache) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.running.Add(1)
	}
	return !c.closed
}

// contextError returns the error of a request whose context has ended.
func contextError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", payment.ErrUnavailable, err)
}
