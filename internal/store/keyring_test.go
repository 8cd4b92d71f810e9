package store_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// database stands for the table of API keys while a test moves the clock: it answers as it is when
// the question reaches it, after latency. What PostgreSQL itself answers is shown by the tests of
// Authenticate.
type database struct {
	latency time.Duration

	mu     sync.Mutex
	tenant payment.Tenant
	err    error
	asked  int
	asking int
	// Questions at once.
	most int
}

var acme = payment.Tenant{TenantRef: payment.TenantRef{ID: 7, Name: "acme"}}

func (d *database) ask(ctx context.Context, _ payment.APIKeyHash) (payment.Tenant, error) {
	d.mu.Lock()
	d.asked++
	d.asking++
	d.most = max(d.most, d.asking)
	tenant, err := d.tenant, d.err
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.asking--
		d.mu.Unlock()
	}()
	select {
	case <-time.After(d.latency):
		return tenant, err
	case <-ctx.Done():
		return payment.Tenant{}, errors.Join(payment.ErrUnavailable, ctx.Err())
	}
}

// become changes how the database is from now on.
func (d *database) become(tenant payment.Tenant, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tenant, d.err = tenant, err
}

func (d *database) counts() (asked, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked, d.most
}

// withKeyring runs a test on a clock of its own, with a keyring over the database.
func withKeyring(t *testing.T, d *database, test func(*testing.T, store.Keyring)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k, err := store.NewKeyring(d.ask)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		test(t, k)
	})
}

var someKey = payment.APIKeyHash{1}

func wantAcme(t *testing.T, k store.Keyring) {
	t.Helper()
	if got, err := k.TenantOf(t.Context(), someKey); err != nil || got != acme {
		t.Fatalf("authenticated as %q, %v, want acme", got.Name, err)
	}
}

// TestKeyring_RefreshedAhead: a key is used ten times a second for a minute, of a database that
// takes a second for each answer. Only the first request may wait. Without the questions in the
// background each fourth second would have one that does.
func TestKeyring_RefreshedAhead(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Second, tenant: acme}
	withKeyring(t, d, func(t *testing.T, k store.Keyring) {
		wantAcme(t, k)
		for range 600 {
			began := time.Now()
			wantAcme(t, k)
			if waited := time.Since(began); waited != 0 {
				t.Fatalf("a request waited %s for the database", waited)
			}
			time.Sleep(100 * time.Millisecond)
		}
		// An answer begins to age when it is asked for, so that there is a question every two
		// seconds, and no more.
		if asked, most := d.counts(); asked > 32 || asked < 28 || most != 1 {
			t.Errorf("%d questions in a minute, %d at once; want one every two seconds, one at a time", asked, most)
		}
		time.Sleep(time.Hour)
		before, _ := d.counts()
		if time.Sleep(time.Hour); before != d.asked {
			t.Error("a key that nobody uses is asked for")
		}
	})
}

// TestKeyring_Revoked: a key that is used all the time is revoked, at every phase of what is
// remembered of it, while the database is fast or slow. It must stop working with the answer to the
// next question, within authTTL at the latest, and for good.
func TestKeyring_Revoked(t *testing.T) {
	t.Parallel()
	const step = 50 * time.Millisecond
	for _, latency := range []time.Duration{0, time.Millisecond, time.Second, 3 * time.Second} {
		for phase := time.Duration(0); phase < 5*time.Second; phase += 250 * time.Millisecond {
			d := &database{latency: latency, tenant: acme}
			withKeyring(t, d, func(t *testing.T, k store.Keyring) {
				wantAcme(t, k)
				for range phase / step {
					wantAcme(t, k)
					time.Sleep(step)
				}
				d.become(payment.Tenant{}, payment.ErrUnauthorized)
				revoked := time.Now()
				var last time.Duration // The latest moment after it at which the key worked.
				for time.Since(revoked) < 20*time.Second {
					switch got, err := k.TenantOf(t.Context(), someKey); {
					case err == nil:
						last = time.Since(revoked)
					case !errors.Is(err, payment.ErrUnauthorized) || got != (payment.Tenant{}):
						t.Fatalf("%v as %q, want payment.ErrUnauthorized", err, got.Name)
					}
					time.Sleep(step)
				}
				if most := min(store.AuthTTL, store.AuthRefreshAfter+latency+step); last > most {
					t.Errorf("latency %s, revoked after %s: the key worked for %s more, want %s at most", latency,
						phase, last, most)
				}
			})
		}
	}
}

// TestKeyring_Away: the database goes away under a key in use. The key works until authTTL after
// the last question that was answered, and no longer; meanwhile the database is asked now and then
// and not with each request; and when it is back the key works again.
func TestKeyring_Away(t *testing.T) {
	t.Parallel()
	d := &database{tenant: acme}
	withKeyring(t, d, func(t *testing.T, k store.Keyring) {
		wantAcme(t, k)
		d.become(payment.Tenant{}, payment.ErrUnavailable)
		for age := time.Duration(0); age < store.AuthTTL; age += time.Millisecond {
			wantAcme(t, k)
			time.Sleep(time.Millisecond)
		}
		if asked, _ := d.counts(); asked < 2 || asked > 6 {
			t.Errorf("%d questions in %s of 4,000 requests, want a few", asked, store.AuthTTL)
		}
		if got, err := k.TenantOf(t.Context(), someKey); !errors.Is(err, payment.ErrUnavailable) ||
			got != (payment.Tenant{}) {
			t.Errorf("%s after the last answer: authenticated as %q, %v, want payment.ErrUnavailable", store.AuthTTL,
				got.Name, err)
		}
		d.become(acme, nil)
		wantAcme(t, k)
	})
}

// TestKeyring_Unknown: a key that is unknown is asked for each time, so that it works from the
// moment at which it is given: also for a request that comes while the question of an earlier one,
// which found nothing, is still under way.
func TestKeyring_Unknown(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Second, err: payment.ErrUnauthorized}
	withKeyring(t, d, func(t *testing.T, k store.Keyring) {
		for n := 1; n <= 3; n++ {
			_, err := k.TenantOf(t.Context(), someKey)
			if asked, _ := d.counts(); asked != n || !errors.Is(err, payment.ErrUnauthorized) {
				t.Errorf("%v after %d questions, want payment.ErrUnauthorized after %d", err, asked, n)
			}
		}
		early := make(chan error, 1)
		go func() {
			_, err := k.TenantOf(t.Context(), someKey)
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

// TestKeyring_OneQuestion: a thousand requests come at once with a key that is not remembered. One
// question is asked. A client that goes away meanwhile takes it from nobody.
func TestKeyring_OneQuestion(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Second, tenant: acme}
	withKeyring(t, d, func(t *testing.T, k store.Keyring) {
		gone, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { // The first one, whose question it is.
			_, err := k.TenantOf(gone, someKey)
			left <- err
		}()
		synctest.Wait()
		var requests sync.WaitGroup
		var served atomic.Int32
		for range 1000 {
			requests.Go(func() {
				if got, err := k.TenantOf(t.Context(), someKey); err == nil && got == acme {
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
		if asked, _ := d.counts(); asked != 1 || served.Load() != 1000 {
			t.Errorf("%d served by %d questions, want 1,000 by one", served.Load(), asked)
		}
	})
}

// TestKeyring_TooLate: an answer that took longer than a key may be trusted says nothing, to
// nobody.
func TestKeyring_TooLate(t *testing.T) {
	t.Parallel()
	d := &database{latency: store.AuthTTL + time.Second, tenant: acme}
	withKeyring(t, d, func(t *testing.T, k store.Keyring) {
		if got, err := k.TenantOf(t.Context(), someKey); !errors.Is(err, payment.ErrUnavailable) ||
			got != (payment.Tenant{}) {
			t.Errorf("authenticated as %q, %v, want payment.ErrUnavailable", got.Name, err)
		}
	})
}

// TestKeyring_Forget: the database is replaced while a question to it is under way. Its answer is
// told to who waits for it, and not remembered.
func TestKeyring_Forget(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Second, tenant: acme}
	withKeyring(t, d, func(t *testing.T, k store.Keyring) {
		go func() {
			time.Sleep(d.latency / 2)
			k.Forget()
		}()
		wantAcme(t, k)
		wantAcme(t, k)
		if asked, _ := d.counts(); asked != 2 {
			t.Errorf("%d questions, want 2: the first answer is of a database that is no more", asked)
		}
		wantAcme(t, k)
		if asked, _ := d.counts(); asked != 2 {
			t.Errorf("%d questions, want 2: the second answer is remembered", asked)
		}
	})
}

// TestKeyring_Close: a store is closed while a question in the background is under way, which
// nobody waits for but Close.
func TestKeyring_Close(t *testing.T) {
	t.Parallel()
	d := &database{latency: time.Millisecond, tenant: acme}
	withKeyring(t, d, func(t *testing.T, k store.Keyring) {
		wantAcme(t, k)
		time.Sleep(3 * time.Second)
		d.latency = time.Hour
		wantAcme(t, k)
		synctest.Wait()
		if asked, _ := d.counts(); asked != 2 || d.asking != 1 {
			t.Fatalf("%d questions, %d under way, want the second to be", asked, d.asking)
		}
		began := time.Now()
		k.Close()
		if waited := time.Since(began); d.asking != 0 || waited != 0 {
			t.Errorf("closed after %s with %d queries in progress, want the query ended and waited for", waited, d.asking)
		}
		if _, err := k.TenantOf(t.Context(), payment.APIKeyHash{2}); !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("after Close: %v, want payment.ErrUnavailable", err)
		}
		if asked, _ := d.counts(); asked != 2 {
			t.Error("a question was asked after Close")
		}
	})
}
