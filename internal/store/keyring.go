package store

import (
	"context"
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
	// authTTL is how long a replica trusts a key, counted from the moment at which it began to ask.
	// A revoked key stops working everywhere within it; the contract says 5 s, which leaves a
	// second for the request itself. It bounds the question, too: an answer that took longer says
	// nothing any more.
	authTTL = 4 * time.Second
	// authRefreshAfter is the age at which a key that is in use is asked for again, in the
	// background: under load no request waits for the database, as long as the database answers
	// within the other half of authTTL.
	authRefreshAfter = authTTL / 2
	// authRefreshEvery paces these questions while they fail: a database that is away is not asked
	// at the rate of the requests.
	authRefreshEvery = authTTL / 8
)

// keyring is what is remembered of live API keys. Only live ones are: that a key is unknown or
// revoked is asked anew each time, since it may be given the next moment. A key that is in use is
// asked for by one question at a time, however many requests wait for it.
type keyring struct {
	ask       func(context.Context, payment.APIKeyHash) (payment.Tenant, error)
	live      *lru.Cache[payment.APIKeyHash, *liveKey]
	questions singleflight.Group
	// Counts how often live was emptied.
	forgotten atomic.Int64

	// Of the questions; ends when the keyring is closed.
	ctx    context.Context
	cancel context.CancelFunc
	// Guards closed, so that no question begins once close waits for them.
	mu     sync.Mutex
	closed bool
	asking sync.WaitGroup
}

// liveKey is a key that was found live by a question begun at a time.
type liveKey struct {
	tenant payment.Tenant
	asked  time.Time
	// The age, in nanoseconds, at which it is asked for again.
	refresh atomic.Int64
}

// verdict is the answer to one question: the tenant of a live key, or an error.
type verdict struct {
	tenant payment.Tenant
	asked  time.Time
	err    error
}

func newKeyring(ask func(context.Context, payment.APIKeyHash) (payment.Tenant, error)) (*keyring, error) {
	live, err := lru.New[payment.APIKeyHash, *liveKey](tenantsMax)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k := &keyring{ask: ask, live: live}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k, nil
}

// tenantOf returns the tenant of a live key, payment.ErrUnauthorized, or what kept it from asking.
func (k *keyring) tenantOf(ctx context.Context, key payment.APIKeyHash) (payment.Tenant, error) {
	began := time.Now()
	if known, ok := k.live.Get(key); ok {
		age := began.Sub(known.asked)
		if due := known.refresh.Load(); age >= time.Duration(due) &&
			known.refresh.CompareAndSwap(due, int64(age+authRefreshEvery)) {
			// Nobody waits for the verdict: it replaces, or ends, what is remembered. Else that
			// ends by itself.
			k.question(key)
		}
		if age < authTTL {
			return known.tenant, nil
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return payment.Tenant{}, translate(err)
		}
		select {
		case <-ctx.Done():
			// The question goes on, for the others who wait and for the next request.
			return payment.Tenant{}, translate(ctx.Err())
		case r := <-k.question(key):
			v := r.Val.(verdict)
			if errors.Is(v.err, payment.ErrUnauthorized) && v.asked.Before(began) {
				// The key may have been given after that question and before this request. The next
				// one begins later than both.
				continue
			}
			return v.tenant, v.err
		}
	}
}

// question asks about the key, or joins the question that is under way.
func (k *keyring) question(key payment.APIKeyHash) <-chan singleflight.Result {
	return k.questions.DoChan(string(key[:]), func() (any, error) {
		if !k.begin() {
			return verdict{asked: time.Now(), err: errClosed}, nil
		}
		defer k.asking.Done()
		return k.answer(key), nil
	})
}

// answer asks the database, and remembers a key that is live or forgets one that is not. An error
// changes nothing: what is remembered keeps its age.
func (k *keyring) answer(key payment.APIKeyHash) verdict {
	// Before the question: a key revoked while it is under way must not live longer.
	asked := time.Now()
	ctx, cancel := context.WithTimeout(k.ctx, authTTL)
	defer cancel()
	forgotten := k.forgotten.Load()
	tenant, err := k.ask(ctx, key)
	switch {
	case k.ctx.Err() != nil && err != nil:
		err = errClosed // And not the cancellation, which would say that the caller had gone.
	case err == nil && time.Since(asked) >= authTTL:
		err = fmt.Errorf("%w: the key was live %s ago", payment.ErrUnavailable, authTTL)
	case errors.Is(err, payment.ErrUnauthorized):
		k.live.Remove(key)
	case err == nil && k.forgotten.Load() == forgotten:
		// Else it may be of a database that is no more.
		fresh := &liveKey{tenant: tenant, asked: asked}
		fresh.refresh.Store(int64(authRefreshAfter))
		k.live.Add(key, fresh)
	}
	if err != nil {
		tenant = payment.Tenant{}
	}
	return verdict{tenant, asked, err}
}

// begin counts a question that begins, unless the keyring is closed.
func (k *keyring) begin() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.asking.Add(1)
	}
	return !k.closed
}

// forget empties what is remembered: the database is another one, in which keys may be others'.
func (k *keyring) forget() {
	k.forgotten.Add(1)
	k.live.Purge()
}

// close ends the questions that are under way and waits for them.
func (k *keyring) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.asking.Wait()
}
