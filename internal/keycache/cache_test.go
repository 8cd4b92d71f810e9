package keycache_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/internal/batch"
	"github.com/paylatch/paylatch/internal/keycache"
	"github.com/paylatch/paylatch/internal/payment"
)

// database stands for the table of API keys while a test moves the clock. It responds as it is when
// the query reaches it, after latency. PostgreSQL's own responses are tested with Authenticate.
type database struct {
	latency time.Duration

	mu      sync.Mutex
	access  payment.Access
	err     error
	queries int
	running int
	// most is the greatest number of queries that were in progress at once.
	most int
	// only is the one key that is live. If it is zero, all are.
	only payment.APIKeyHash
}

var acme = payment.Access{Tenant: payment.Tenant{TenantRef: payment.TenantRef{ID: 7, Name: "acme"}}}

func (d *database) lookup(ctx context.Context, keys []payment.APIKeyHash) (map[payment.APIKeyHash]payment.Access,
	error,
) {
	d.mu.Lock()
	d.queries++
	d.running++
	d.most = max(d.most, d.running)
	access, err := d.access, d.err
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.running--
		d.mu.Unlock()
	}()
	select {
	case <-time.After(d.latency):
	case <-ctx.Done():
		return nil, errors.Join(payment.ErrUnavailable, ctx.Err())
	}
	if errors.Is(err, payment.ErrUnauthorized) {
		return nil, nil
	}
	found := map[payment.APIKeyHash]payment.Access{}
	for _, key := range keys {
		if d.only == (payment.APIKeyHash{}) || key == d.only {
			found[key] = access
		}
	}
	return found, err
}

// become changes how the database responds from now on.
func (d *database) become(access payment.Access, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.access, d.err = access, err
}

func (d *database) counts() (queries, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queries, d.most
}

// withCache runs a test on a clock of its own, with a cache over the database.
func withCache(t *testing.T, d *database, test func(*testing.T, *keycache.Cache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k, err := keycache.New(10, d.lookup)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		test(t, k)
	})
}

var someKey = payment.APIKeyHash{1}

func wantAcme(t *testing.T, k *keycache.Cache) {
	t.Helper()
	if got, err := k.Access(t.Context(), someKey); err != nil || got != acme {
		t.Fatalf("authenticated as %q, %v, want acme", got.Tenant.Name, err)
	}
}

// TestCache_RefreshedAhead: a key is used ten times a second for a minute, and the database takes a
// second for each response. Only the first request may wait. Without the queries in the background
// one request every four seconds would wait.
func TestCache_RefreshedAhead(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Second, access: acme}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		wantAcme(t, k)
		for range 600 {
			began := time.Now()
			wantAcme(t, k)
			if waited := time.Since(began); waited != 0 {
				t.Fatalf("a request waited %s for the database", waited)
			}
			time.Sleep(100 * time.Millisecond)
		}
		// A result begins to age when its query starts. So there is one query every two seconds,
		// and no more.
		if queries, most := d.counts(); queries > 32 || queries < 28 || most != 1 {
			t.Errorf("%d queries in a minute, %d at once; want one every two seconds, one at a time", queries, most)
		}
		time.Sleep(time.Hour)
		before, _ := d.counts()
		time.Sleep(time.Hour)
		if before != d.queries {
			t.Error("a key that is not used was queried")
		}
	})
}

// TestCache_Revoked: a key that is used all the time is revoked, at each phase of its entry, while
// the database is fast or slow. It must stop working with the result of the next query, within TTL
// at the latest, and for good.
func TestCache_Revoked(t *testing.T) {
	t.Parallel()
	const step = 50 * time.Millisecond
	for _, latency := range []time.Duration{0, time.Millisecond, time.Second, 3 * time.Second} {
		for phase := time.Duration(0); phase < 5*time.Second; phase += 250 * time.Millisecond {
			d := &database{latency: latency, access: acme}
			withCache(t, d, func(t *testing.T, k *keycache.Cache) {
				wantAcme(t, k)
				for range phase / step {
					wantAcme(t, k)
					time.Sleep(step)
				}
				d.become(payment.Access{}, payment.ErrUnauthorized)
				revoked := time.Now()
				var last time.Duration // The latest moment after it at which the key worked.
				for time.Since(revoked) < 20*time.Second {
					switch got, err := k.Access(t.Context(), someKey); {
					case err == nil:
						last = time.Since(revoked)
					case !errors.Is(err, payment.ErrUnauthorized) || got != (payment.Access{}):
						t.Fatalf("got %v as %q, want payment.ErrUnauthorized", err, got.Tenant.Name)
					}
					time.Sleep(step)
				}
				if most := min(keycache.TTL, keycache.RefreshAfter+latency+step); last > most {
					t.Errorf("latency %s, revoked after %s: the key worked for %s more, want %s at most", latency,
						phase, last, most)
				}
			})
		}
	}
}

// TestCache_Away: the database goes away while a key is in use. The key works until TTL after the
// last successful query, and no longer. The database is queried now and then, and not with each
// request. When it is back, the key works again.
func TestCache_Away(t *testing.T) {
	t.Parallel()
	d := &database{access: acme}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		wantAcme(t, k)
		d.become(payment.Access{}, payment.ErrUnavailable)
		for age := time.Duration(0); age < keycache.TTL; age += time.Millisecond {
			wantAcme(t, k)
			time.Sleep(time.Millisecond)
		}
		if queries, _ := d.counts(); queries < 2 || queries > 6 {
			t.Errorf("%d queries in %s of 4,000 requests, want 2 to 6", queries, keycache.TTL)
		}
		if got, err := k.Access(t.Context(), someKey); !errors.Is(err, payment.ErrUnavailable) ||
			got != (payment.Access{}) {
			t.Errorf("%s after the last answer: authenticated as %q, %v, want payment.ErrUnavailable", keycache.TTL,
				got.Tenant.Name, err)
		}
		d.become(acme, nil)
		wantAcme(t, k)
	})
}

// TestCache_Unknown: an unknown key is queried each time, so that it works from the moment at which
// it is created. That holds for a request that arrives while an earlier request's query, which
// found nothing, is still in progress.
func TestCache_Unknown(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Second, err: payment.ErrUnauthorized}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		for n := 1; n <= 3; n++ {
			_, err := k.Access(t.Context(), someKey)
			if queries, _ := d.counts(); queries != n || !errors.Is(err, payment.ErrUnauthorized) {
				t.Errorf("%v after %d queries, want payment.ErrUnauthorized after %d", err, queries, n)
			}
		}
		early := make(chan error, 1)
		go func() {
			_, err := k.Access(t.Context(), someKey)
			early <- err
		}()
		time.Sleep(d.latency / 2)
		d.become(acme, nil)
		wantAcme(t, k)
		if err := <-early; !errors.Is(err, payment.ErrUnauthorized) {
			t.Errorf("the request before the key was given: %v, want payment.ErrUnauthorized", err)
		}
	})
}

// TestCache_OneQuery: a thousand requests arrive at once with a key that is not cached. There is
// one query. A client that goes away does not end it for the others.
func TestCache_OneQuery(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Second, access: acme}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		gone, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { // The first one, which starts the query.
			_, err := k.Access(gone, someKey)
			left <- err
		}()
		synctest.Wait()
		var requests sync.WaitGroup
		var served atomic.Int32
		for range 1000 {
			requests.Go(func() {
				if got, err := k.Access(t.Context(), someKey); err == nil && got == acme {
					served.Add(1)
				}
			})
		}
		synctest.Wait() // All of them wait.
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) || errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("the one that went away: %v, want context.Canceled", err)
		}
		requests.Wait()
		if queries, _ := d.counts(); queries != 1 || served.Load() != 1000 {
			t.Errorf("%d served by %d queries, want 1,000 by one", served.Load(), queries)
		}
	})
}

// TestCache_Flood: thousands of unknown keys wait for a database that takes a second for each
// response. They share a few queries, and one more is refused at once. A key that is in use is
// refreshed next to them.
func TestCache_Flood(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Second, access: acme, only: someKey}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		wantAcme(t, k)
		var requests sync.WaitGroup
		var refused atomic.Int32
		for n := range keycache.UnknownMax {
			requests.Go(func() {
				key := payment.APIKeyHash{2, byte(n >> 8), byte(n)}
				if _, err := k.Access(t.Context(), key); errors.Is(err, payment.ErrUnauthorized) {
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		if _, err := k.Access(t.Context(), payment.APIKeyHash{3}); !errors.Is(err, batch.ErrFull) {
			t.Errorf("one key more: got %v, want batch.ErrFull", err)
		}
		time.Sleep(keycache.RefreshAfter)
		wantAcme(t, k)
		time.Sleep(keycache.RefreshAfter - 100*time.Millisecond)
		if n := refused.Load(); n == keycache.UnknownMax {
			t.Fatal("no unknown key waits any more, so the test shows nothing")
		}
		began := time.Now()
		wantAcme(t, k)
		if time.Since(began) != 0 {
			t.Errorf("a key in use waited %s behind unknown ones", time.Since(began))
		}
		requests.Wait()
		queries, most := d.counts()
		const queriesMax = keycache.UnknownMax/keycache.LookupMax + 4 // One is for one key, three are for someKey.
		if queries > queriesMax || most > 2*batch.RunningMax || refused.Load() != keycache.UnknownMax {
			t.Errorf("got %d queries, %d at once, %d keys refused; want at most %d, %d, and %d", queries, most,
				refused.Load(), queriesMax, 2*batch.RunningMax, keycache.UnknownMax)
		}
	})
}

// TestCache_TooLate: a result that took longer than a key may be trusted is worth nothing to any
// request.
func TestCache_TooLate(t *testing.T) {
	t.Parallel()
	d := &database{latency: keycache.TTL + time.Second, access: acme}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		if got, err := k.Access(t.Context(), someKey); !errors.Is(err, payment.ErrUnavailable) ||
			got != (payment.Access{}) {
			t.Errorf("authenticated as %q, %v, want payment.ErrUnavailable", got.Tenant.Name, err)
		}
	})
}

// TestCache_Purge: the database becomes another one while a query is in progress. Neither the
// request that waits for that query nor one that comes after the purge gets the former database's
// tenant.
func TestCache_Purge(t *testing.T) {
	t.Parallel()
	former := payment.Access{Tenant: payment.Tenant{TenantRef: payment.TenantRef{ID: 7, Name: "former"}}}
	d := &database{latency: time.Second, access: former}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		go func() {
			time.Sleep(d.latency / 2)
			d.become(acme, nil)
			k.Purge()
			if got, err := k.Access(t.Context(), someKey); err != nil || got != acme {
				t.Errorf("after the purge: authenticated as %q, %v, want acme", got.Tenant.Name, err)
			}
		}()
		wantAcme(t, k)
		if queries, _ := d.counts(); queries != 2 {
			t.Errorf("%d queries, want 2: the first result is of the former database", queries)
		}
		wantAcme(t, k)
		if queries, _ := d.counts(); queries != 2 {
			t.Errorf("%d queries, want 2: the second result is cached", queries)
		}
	})
}

// TestCache_Close: the cache is closed while a query is in progress in the background, which only
// Close waits for.
func TestCache_Close(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Millisecond, access: acme}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		wantAcme(t, k)
		time.Sleep(3 * time.Second)
		d.latency = time.Hour
		wantAcme(t, k)
		synctest.Wait()
		if queries, _ := d.counts(); queries != 2 || d.running != 1 {
			t.Fatalf("%d queries, %d in progress, want 2 and 1", queries, d.running)
		}
		began := time.Now()
		k.Close()
		if waited := time.Since(began); d.running != 0 || waited != 0 {
			t.Errorf("closed after %s with %d queries in progress, want the query ended and waited for", waited,
				d.running)
		}
		if _, err := k.Access(t.Context(), payment.APIKeyHash{2}); !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("after Close: %v, want payment.ErrUnavailable", err)
		}
		if queries, _ := d.counts(); queries != 2 {
			t.Error("a query was started after Close")
		}
	})
}

// TestCache_Used: each key that was used in a period is reported once, also one that was not cached
// before, and one that is used in each period. A refused key is not.
func TestCache_Used(t *testing.T) {
	t.Parallel()
	access := acme
	access.KeyID = 7
	d := &database{access: access, only: someKey}
	withCache(t, d, func(t *testing.T, k *keycache.Cache) {
		for period := range 3 {
			for range 100 {
				if _, err := k.Access(t.Context(), someKey); err != nil {
					t.Fatal(err)
				}
				time.Sleep(100 * time.Millisecond)
			}
			if _, err := k.Access(t.Context(), payment.APIKeyHash{9}); !errors.Is(err, payment.ErrUnauthorized) {
				t.Fatal(err)
			}
			if used := k.Used(); !slices.Equal(used, []int32{7}) {
				t.Errorf("period %d: got keys %v, want key 7", period, used)
			}
			if used := k.Used(); len(used) != 0 {
				t.Errorf("period %d: got keys %v again, want none", period, used)
			}
		}
	})
}
