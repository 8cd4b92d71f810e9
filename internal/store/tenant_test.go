package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/batch"
	"github.com/paylatch/paylatch/internal/keycache"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

func newKey(t testing.TB) payment.APIKey {
	t.Helper()
	key, err := payment.NewAPIKey("live")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// addKey gives acme a key.
func (f *fixture) addKey() (payment.APIKey, int32) {
	f.t.Helper()
	key := newKey(f.t)
	id, err := f.AddAPIKey(f.t.Context(), "acme", key, store.Unrestricted)
	if err != nil {
		f.t.Fatal(err)
	}
	return key, id
}

// wantTenant checks that the key belongs to the tenant, with the salt that ids are derived from.
func wantTenant(t testing.TB, s *store.Store, key payment.APIKey, want payment.Tenant) {
	t.Helper()
	got, err := s.Authenticate(t.Context(), key.Hash())
	if err != nil || got.Tenant != want {
		t.Errorf("authenticated as %q with the right salt: %t, %v; want %q", got.Tenant.Name,
			got.Tenant.Salt == want.Salt, err, want.Name)
	}
}

func wantUnauthorized(t testing.TB, s *store.Store, key payment.APIKey) {
	t.Helper()
	got, err := s.Authenticate(t.Context(), key.Hash())
	if !errors.Is(err, payment.ErrUnauthorized) || errors.Is(err, payment.ErrUnavailable) || got != (payment.Access{}) {
		t.Errorf("authenticated as %q, %v, want payment.ErrUnauthorized", got.Tenant.Name, err)
	}
}

// TestStore_Tenant_Lifecycle goes from a new tenant over several live keys to the last one revoked.
func TestStore_Tenant_Lifecycle(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	other := f.newTenant("other")
	if f.tenant.Salt == other.Salt || f.tenant.Salt == (payment.Salt{}) || f.tenant.ID == other.ID {
		t.Fatal("two tenants share an id or a salt")
	}
	unknown := newKey(t)
	wantUnauthorized(t, f.Store, unknown)

	first, firstID := f.addKey()
	second, secondID := f.addKey()
	theirs := newKey(t)
	if _, err := f.AddAPIKey(t.Context(), "other", theirs, store.Unrestricted); err != nil {
		t.Fatal(err)
	}
	wantTenant(t, f.Store, first, f.tenant)
	wantTenant(t, f.Store, first, f.tenant) // Once more, now remembered.
	wantTenant(t, f.Store, second, f.tenant)
	wantTenant(t, f.Store, theirs, other)

	if err := f.RevokeAPIKey(t.Context(), "acme", firstID); err != nil {
		t.Fatal(err)
	}
	wantUnauthorized(t, openStore(t, f.url), first)
	wantTenant(t, openStore(t, f.url), second, f.tenant)
	if err := f.RevokeAPIKey(t.Context(), "acme", secondID); err != nil {
		t.Fatal(err)
	}
	fresh := openStore(t, f.url)
	wantUnauthorized(t, fresh, second)
	wantTenant(t, fresh, theirs, other)
	wantUnauthorized(t, fresh, unknown)
}

// TestStore_Tenant_Revoked: a replica has just used a key and trusts it. Another replica revokes
// the key. The first one must refuse it, too. The time for which it trusts a key is a bound in the
// code, below the 5 s of the contract. This test shows that it stops.
func TestStore_Tenant_Revoked(t *testing.T) {
	t.Parallel()
	if keycache.TTL >= 5*time.Second {
		t.Errorf("a key is trusted for %v, the contract says less than 5 s", keycache.TTL)
	}
	f := newFixture(t, 1)
	trusting := openStore(t, f.url)
	key, id := f.addKey()
	wantTenant(t, f.Store, key, f.tenant)
	wantTenant(t, trusting, key, f.tenant)
	if err := f.RevokeAPIKey(t.Context(), "acme", id); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*store.Store{trusting, f.Store} {
		f.await("the refusal of a revoked key", func() bool {
			_, err := s.Authenticate(t.Context(), key.Hash())
			if err != nil && !errors.Is(err, payment.ErrUnauthorized) {
				t.Fatal(err)
			}
			return err != nil
		})
		wantUnauthorized(t, s, key) // And it stays so.
	}
}

// TestStore_Tenant_Refusals: an operator's mistakes get their errors.
func TestStore_Tenant_Refusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.newTenant("other")
	key, id := f.addKey()
	_, twice := f.CreateTenant(t.Context(), "acme")
	_, ill := f.CreateTenant(t.Context(), "Acme!")
	_, nobody := f.AddAPIKey(t.Context(), "nobody", newKey(t), store.Unrestricted)
	_, again := f.AddAPIKey(t.Context(), "acme", key, store.Unrestricted)
	_, stolen := f.AddAPIKey(t.Context(), "other", key, store.Unrestricted)
	for _, c := range []struct {
		name      string
		got, want error
	}{ // Evaluated in this order.
		{"TenantTwice", twice, store.ErrTenantExists},
		{"KeyOfNobody", nobody, store.ErrNoTenant},
		{"KeyTwice", again, store.ErrKeyExists},
		{"KeyOfAnother", stolen, store.ErrKeyExists},
		{"RevokeUnknown", f.RevokeAPIKey(t.Context(), "acme", id+1000), store.ErrNoAPIKey},
		{"RevokeAnothersKey", f.RevokeAPIKey(t.Context(), "other", id), store.ErrNoAPIKey},
		{"RevokeOfNobody", f.RevokeAPIKey(t.Context(), "nobody", id), store.ErrNoAPIKey},
		{"RevokeOnce", f.RevokeAPIKey(t.Context(), "acme", id), nil},
		{"RevokeTwice", f.RevokeAPIKey(t.Context(), "acme", id), store.ErrNoAPIKey},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if ill == nil || !strings.Contains(ill.Error(), "Acme!") {
		t.Errorf("an ill-formed name: %v, want an error that names it", ill)
	}
	if n := query[int](f, `select count(*) from tenants`); n != 2 {
		t.Errorf("%d tenants, want 2", n)
	}
}

// TestStore_Tenant_List: operators see all tenants and all keys, the revoked ones with their time,
// and of a key only its hint.
func TestStore_Tenant_List(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.newTenant("zeta")
	first, firstID := f.addKey()
	second, secondID := f.addKey()
	if err := f.RevokeAPIKey(t.Context(), "acme", firstID); err != nil {
		t.Fatal(err)
	}
	infos, err := f.Tenants(t.Context())
	if err != nil || len(infos) != 3 {
		t.Fatalf("%d lines, %v, want 3", len(infos), err)
	}
	for i, want := range []store.APIKeyInfo{
		{Tenant: "acme", KeyID: firstID, Hint: first.Hint()},
		{Tenant: "acme", KeyID: secondID, Hint: second.Hint()},
		{Tenant: "zeta"},
	} {
		got := infos[i]
		if got.ExpiresAt != nil || got.Expired || got.LastUsedAt != nil || got.Note != "" || got.DisabledAt != nil {
			t.Errorf("line %d is %+v, want an unrestricted key that was not used", i, got)
		}
		if got.Tenant != want.Tenant || got.KeyID != want.KeyID || got.Hint != want.Hint || got.CreatedAt.IsZero() ||
			(got.RevokedAt != nil) != (i == 0) {
			t.Errorf("line %d is %+v, want %+v, revoked: %t", i, got, want, i == 0)
		}
	}
}

// TestStore_Tenant_Close: the store is closed while a query for a key waits in PostgreSQL. Close
// ends the query, and its caller gets payment.ErrUnavailable.
func TestStore_Tenant_Close(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	key, _ := f.addKey()
	s := openStore(t, f.url)
	if _, err := f.begin().Exec(t.Context(), `lock table api_keys in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := s.Authenticate(t.Context(), key.Hash())
		asked <- err
	}()
	f.awaitBlocked(1)
	s.Close()
	wantUnavailable(t, receive(t, asked))
}

// TestStore_Tenant_Flood: a thousand clients send keys that nobody has, while the database does not
// respond to queries for keys. They occupy two connections, whatever their number. Creates have the
// others. Once the database responds, a few queries refuse all of them.
func TestStore_Tenant_Flood(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.create(f.payment("before")) // What a create needs is cached.
	held := f.begin()
	if _, err := held.Exec(t.Context(), `lock table api_keys in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	const clients = 1000
	outcomes := make(chan error, clients)
	for range clients {
		key := newKey(t).Hash()
		go func() {
			_, err := f.Authenticate(t.Context(), key)
			outcomes <- err
		}()
	}
	f.await("all keys wait", func() bool { return f.KeysPending() == clients })
	f.create(f.payment("meanwhile"))
	f.await("two connections are in use, and no more", func() bool {
		return f.ConnectionsInUse() == batch.RunningMax && f.KeysPending() == clients
	})
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range clients {
		// One that has waited for too long does not know.
		if err := receive(t, outcomes); !errors.Is(err, payment.ErrUnauthorized) &&
			!errors.Is(err, payment.ErrUnavailable) {
			t.Fatalf("got %v, want that no unknown key is accepted", err)
		}
	}
	if got, most := f.KeyQueries(), clients/keycache.LookupMax+2*batch.RunningMax; got > most {
		t.Errorf("%d queries for %d keys, want at most %d", got, clients, most)
	}
}
