// Package keycache remembers which API keys are live.
package keycache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/paylatch/paylatch/internal/batch"
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

	// LookupMax bounds the keys of one query. PostgreSQL gains little from more.
	LookupMax = 500
	// UnknownMax bounds the keys that are not cached and wait for the database, in one replica. It
	// is what eight queries look up. A client can make up keys as fast as it sends requests. More
	// get payment.ErrUnavailable at once.
	UnknownMax = 8 * LookupMax
)

// Lookup queries the database for keys, and returns what each live one gives access to. A key that
// is unknown, revoked or expired is not in the result.
type Lookup func(context.Context, []payment.APIKeyHash) (map[payment.APIKeyHash]payment.Access, error)

// Cache remembers live API keys. Other keys are queried each time, since a key may be created at
// any moment.
//
// A query is for many keys, and at most batch.RunningMax queries of each kind are in progress,
// however many keys clients send. Keys that were live have queries of their own, so that they do
// not wait for unknown ones. A key is in at most one query, however many requests wait for it. Safe
// for concurrent use.
type Cache struct {
	lookup Lookup
	live   *lru.Cache[payment.APIKeyHash, *liveKey]
	// queries joins the requests that wait for one key.
	queries singleflight.Group
	// unknown looks up keys that are not cached, and refreshes looks up those that are.
	unknown, refreshes *batch.Batcher[payment.APIKeyHash, result]
	// purges counts how often live was emptied.
	purges atomic.Int64
	uses   uses

	// ctx is the context of the queries. It ends with Close.
	ctx    context.Context
	cancel context.CancelFunc
}

// liveKey is a key that a query found live.
type liveKey struct {
	access payment.Access
	// queriedAt is when the query started.
	queriedAt time.Time
	// refreshAt is the age, in nanoseconds, at which the key is queried again.
	refreshAt atomic.Int64
	// usedIn is the period of uses in which the key was last used.
	usedIn atomic.Int64
}

// result is the result of one query for one key: what a live key gives access to, or an error.
type result struct {
	access    payment.Access
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
	c.uses.keysMax = keysMax
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.unknown = batch.New(LookupMax, UnknownMax, c.load)
	c.refreshes = batch.New(LookupMax, keysMax, c.load)
	return c, nil
}

// Access returns what a live key gives access to. It returns payment.ErrUnauthorized for any other
// key, payment.ErrUnavailable if the database cannot be queried, and context.Canceled if the caller
// has gone. A key that was created before the call is found.
func (c *Cache) Access(ctx context.Context, key payment.APIKeyHash) (payment.Access, error) {
	began := time.Now()
	queue := c.unknown
	if known, ok := c.live.Get(key); ok {
		queue = c.refreshes
		age := began.Sub(known.queriedAt)
		due := known.refreshAt.Load()
		if age >= time.Duration(due) && known.refreshAt.CompareAndSwap(due, int64(age+refreshEvery)) {
			// No request waits for this result. It replaces or removes the entry, or the entry
			// expires.
			c.query(queue, key)
		}
		if age < TTL {
			c.uses.note(known)
			return known.access, nil
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return payment.Access{}, contextError(err)
		}
		select {
		case <-ctx.Done():
			// The query goes on for other requests.
			return payment.Access{}, contextError(ctx.Err())
		case r := <-c.query(queue, key):
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
			if res.err == nil {
				c.uses.add(res.access.KeyID)
			}
			return res.access, res.err
		}
	}
}

// Purge removes all entries. It is called when the database is another one, in which a key may
// belong to another tenant.
func (c *Cache) Purge() {
	c.purges.Add(1)
	c.live.Purge()
}

// Used returns the ids of the keys that were used since the last call, in no order. It is for the
// time of a key's last use: its result is not needed for authentication, so a caller may lose it.
func (c *Cache) Used() []int32 { return c.uses.take() }

// Pending returns how many keys that are not cached wait for the database.
func (c *Cache) Pending() int { return c.unknown.Pending() }

// Queries returns how many queries have been started so far.
func (c *Cache) Queries() int { return c.unknown.Started() + c.refreshes.Started() }

// Close cancels the queries in progress and waits for them.
func (c *Cache) Close() {
	c.cancel()
	c.unknown.Close()
	c.refreshes.Close()
}

// query has the key looked up, or joins a request for it that began after the last purge.
func (c *Cache) query(queue *batch.Batcher[payment.APIKeyHash, result], key payment.APIKeyHash,
) <-chan singleflight.Result {
	purges := c.purges.Load()
	name := binary.BigEndian.AppendUint64(key[:], uint64(purges))
	return c.queries.DoChan(string(name), func() (any, error) {
		res, err := queue.Do(c.ctx, allTenants, key)
		if errors.Is(err, context.Canceled) {
			err = batch.ErrClosed // Not context.Canceled, which would mean that the caller has gone.
		}
		if err != nil {
			return result{queriedAt: time.Now(), purges: purges, err: err}, nil
		}
		return res, nil
	})
}

// allTenants is the tenant of a key that is looked up: it is not known yet.
const allTenants = 0

// load implements batch.Process. It queries the database, and adds live keys and removes all
// others. An error changes nothing: an entry keeps its age.
func (c *Cache) load(_ context.Context, keys []payment.APIKeyHash) ([]result, error) {
	purges := c.purges.Load()
	queriedAt := time.Now() // Before the query: a key revoked while it runs must not live longer.
	ctx, cancel := context.WithTimeout(c.ctx, TTL)
	defer cancel()
	found, err := c.lookup(ctx, keys)
	switch {
	case c.ctx.Err() != nil && err != nil:
		err = batch.ErrClosed
	case err == nil && time.Since(queriedAt) >= TTL:
		err = fmt.Errorf("%w: the key was live %s ago", payment.ErrUnavailable, TTL)
	}
	results := make([]result, len(keys))
	for i, key := range keys {
		res := result{queriedAt: queriedAt, purges: purges, err: err}
		if access, ok := found[key]; ok && err == nil {
			res.access = access
		} else if err == nil {
			res.err = payment.ErrUnauthorized
		}
		results[i] = res
		c.note(key, res)
	}
	return results, nil
}

// note adds a live key, or removes one that is not live.
func (c *Cache) note(key payment.APIKeyHash, res result) {
	switch {
	case errors.Is(res.err, payment.ErrUnauthorized):
		c.live.Remove(key)
	case res.err == nil && c.purges.Load() == res.purges: // Otherwise it may come from the former database.
		fresh := &liveKey{access: res.access, queriedAt: res.queriedAt}
		fresh.refreshAt.Store(int64(RefreshAfter))
		c.live.Add(key, fresh)
	}
}

// contextError returns the error of a request whose context has ended.
func contextError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", payment.ErrUnavailable, err)
}
