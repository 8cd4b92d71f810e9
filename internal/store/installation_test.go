package store_test

import (
	"errors"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

func testKey(t testing.TB) payment.APIKey {
	t.Helper()
	key, err := payment.NewAPIKey("test")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestStore_TestInstallation: an installation with a live key is not marked as one for tests. Once
// it is marked, test keys can be added, and each lookup reports the mark until it is taken back.
func TestStore_TestInstallation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	key, id := f.addKey()
	test := testKey(t)
	if _, err := f.AddAPIKey(t.Context(), "acme", test, store.Unrestricted); !errors.Is(err, store.ErrTestKey) ||
		errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("a test key outside: got %v, want store.ErrTestKey", err)
	}
	if _, err := f.EnsureTestTenant(t.Context(), "demo", test); !errors.Is(err, store.ErrTestKey) {
		t.Errorf("a tenant with a test key outside: got %v, want store.ErrTestKey", err)
	}
	if _, err := f.MarkTestInstallation(t.Context()); !errors.Is(err, store.ErrHasLiveKeys) {
		t.Errorf("an installation with a live key: got %v, want store.ErrHasLiveKeys", err)
	}
	f.wantMark(key, false)
	if err := f.RevokeAPIKey(t.Context(), "acme", id); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if changed, err := f.MarkTestInstallation(t.Context()); err != nil || changed != want {
			t.Errorf("mark: got changed %t and error %v, want %t", changed, err, want)
		}
	}
	if _, err := f.AddAPIKey(t.Context(), "acme", test, store.Unrestricted); err != nil {
		t.Error(err)
	}
	f.wantMark(test, true)
	for _, want := range []bool{true, false} {
		if changed, err := f.UnmarkTestInstallation(t.Context()); err != nil || changed != want {
			t.Errorf("unmark: got changed %t and error %v, want %t", changed, err, want)
		}
	}
	f.wantMark(test, false)
	if changed, err := f.MarkTestInstallation(t.Context()); err != nil || !changed {
		t.Errorf("mark an installation with test keys only: got changed %t and error %v, want true", changed, err)
	}
}

// wantMark checks what a new replica learns with a key.
func (f *fixture) wantMark(key payment.APIKey, want bool) {
	f.t.Helper()
	access, err := openStore(f.t, f.url).Authenticate(f.t.Context(), key.Hash())
	if err != nil || access.TestInstallation != want {
		f.t.Errorf("test installation: got %t and error %v, want %t", access.TestInstallation, err, want)
	}
}

// TestStore_EnsureTestTenant: a tenant gets the key of the demo once. A tenant with other keys does
// not get it, and neither does a second tenant.
func TestStore_EnsureTestTenant(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	if _, err := f.MarkTestInstallation(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := testKey(t)
	f.addKey() // Of acme.
	for _, row := range []struct {
		tenant  string
		created bool
		want    error
	}{
		{"acme", false, store.ErrHasOtherKeys},
		{"demo", true, nil},
		{"demo", false, nil},
		{"second", false, store.ErrKeyOfAnother},
		{"acme", false, store.ErrKeyOfAnother},
	} {
		created, err := f.EnsureTestTenant(t.Context(), row.tenant, key)
		if created != row.created || !errors.Is(err, row.want) {
			t.Errorf("%s: got created %t and error %v, want %t and %v", row.tenant, created, err, row.created, row.want)
		}
	}
	if n := query[int](f, `select count(*) from tenants`); n != 2 {
		t.Errorf("got %d tenants, want 2: a refusal creates none", n)
	}
	// It may have others later.
	if _, err := f.AddAPIKey(t.Context(), "demo", testKey(t), store.Unrestricted); err != nil {
		t.Fatal(err)
	}
	if created, err := f.EnsureTestTenant(t.Context(), "demo", key); err != nil || created {
		t.Errorf("got created %t and error %v, want that nothing is changed", created, err)
	}
	f.exec(`update api_keys set revoked_at = now() where hint = $1`, key.Hint())
	if _, err := f.EnsureTestTenant(t.Context(), "demo", key); !errors.Is(err, store.ErrKeyRevoked) {
		t.Errorf("got %v, want store.ErrKeyRevoked", err)
	}
}
