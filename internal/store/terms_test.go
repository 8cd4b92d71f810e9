package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// addKeyWith gives acme a key.
func (f *fixture) addKeyWith(terms store.APIKeyTerms) (payment.APIKey, int32) {
	f.t.Helper()
	key := newKey(f.t)
	id, err := f.AddAPIKey(f.t.Context(), "acme", key, terms)
	if err != nil {
		f.t.Fatal(err)
	}
	return key, id
}

// TestStore_Terms: a key has the scopes, the end and the note that it was given. The end is by
// PostgreSQL's clock. A key that would have ended already is refused.
func TestStore_Terms(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	readOnly := store.APIKeyTerms{
		Scopes: payment.Scopes{Read: true}, ExpiresAfter: 90 * 24 * time.Hour, Note: "für das Buchungssystem",
	}
	key, id := f.addKeyWith(readOnly)
	access, err := f.Authenticate(t.Context(), key.Hash())
	if err != nil || access.Tenant != f.tenant || access.KeyID != id || access.Scopes != readOnly.Scopes {
		t.Errorf("got key %d with %s and error %v, want key %d with payments:read", access.KeyID, access.Scopes, err,
			id)
	}
	if !query[bool](f, `select expires_at = created_at + interval '90 days' from api_keys where id = $1`, id) {
		t.Error("the key does not end 90 days after it was created")
	}
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	_, second := f.addKeyWith(store.APIKeyTerms{Scopes: payment.AllScopes, ExpiresAt: at})
	infos, err := f.Tenants(t.Context())
	if err != nil || len(infos) != 2 {
		t.Fatalf("got %d keys and error %v, want 2", len(infos), err)
	}
	if got := infos[0]; got.Note != readOnly.Note || strings.Join(got.Scopes, ",") != "payments:read" || got.Expired {
		t.Errorf("got %+v, want the terms of the key", got)
	}
	if got := infos[1]; got.KeyID != second || got.ExpiresAt == nil || !got.ExpiresAt.Equal(at) {
		t.Errorf("got %+v, want an end at %s", got, at)
	}
	for _, past := range []store.APIKeyTerms{
		{Scopes: payment.AllScopes, ExpiresAt: time.Now().Add(-time.Hour)},
		{Scopes: payment.AllScopes, ExpiresAfter: -time.Second},
	} {
		if _, err := f.AddAPIKey(t.Context(), "acme", newKey(t), past); !errors.Is(err, store.ErrKeyExpired) {
			t.Errorf("a key that has ended: got %v, want store.ErrKeyExpired", err)
		}
	}
}

// TestStore_Terms_Expired: a replica that trusts a key refuses it soon after its end. Only
// PostgreSQL's clock has passed the end: for this process the key ended long ago, or lives on.
func TestStore_Terms_Expired(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	key, id := f.addKey()
	wantTenant(t, f.Store, key, f.tenant)
	f.exec(`update api_keys set created_at = now() - interval '1 hour', expires_at = now() where id = $1`, id)
	f.awaitRefusal(key)
	if infos, err := f.Tenants(t.Context()); err != nil || !infos[0].Expired {
		t.Errorf("got %+v and error %v, want that the key has expired", infos, err)
	}
}

// awaitRefusal waits until the store no longer accepts the key.
func (f *fixture) awaitRefusal(key payment.APIKey) {
	f.t.Helper()
	f.await("the refusal of a key", func() bool {
		_, err := f.Authenticate(f.t.Context(), key.Hash())
		if err != nil && !errors.Is(err, payment.ErrUnauthorized) {
			f.t.Fatal(err)
		}
		return err != nil
	})
}

// TestStore_DisableTenant: all keys of a disabled tenant are refused, also on a replica that trusts
// them, and work again once it is enabled. Keys that were revoked do not. Another tenant is not
// affected.
func TestStore_DisableTenant(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	other := f.newTenant("other")
	theirs := newKey(t)
	if _, err := f.AddAPIKey(t.Context(), "other", theirs, store.Unrestricted); err != nil {
		t.Fatal(err)
	}
	key, _ := f.addKey()
	revoked, id := f.addKey()
	if err := f.RevokeAPIKey(t.Context(), "acme", id); err != nil {
		t.Fatal(err)
	}
	wantTenant(t, f.Store, key, f.tenant)
	change := func(what string, change func(context.Context, string) (bool, error), want bool) {
		t.Helper()
		if changed, err := change(t.Context(), "acme"); err != nil || changed != want {
			t.Errorf("%s: got changed %t and error %v, want %t", what, changed, err, want)
		}
		if _, err := change(t.Context(), "nobody"); !errors.Is(err, store.ErrNoTenant) {
			t.Errorf("%s a tenant that does not exist: got %v, want store.ErrNoTenant", what, err)
		}
	}
	change("enable", f.EnableTenant, false)
	change("disable", f.DisableTenant, true)
	change("disable again", f.DisableTenant, false)
	f.awaitRefusal(key)
	wantUnauthorized(t, openStore(t, f.url), key)
	wantTenant(t, f.Store, theirs, other)
	if infos, err := f.Tenants(t.Context()); err != nil || infos[0].DisabledAt == nil || infos[2].DisabledAt != nil {
		t.Errorf("got %+v and error %v, want acme disabled, and other not", infos, err)
	}
	change("enable", f.EnableTenant, true)
	wantTenant(t, f.Store, key, f.tenant)
	wantUnauthorized(t, f.Store, revoked)
}

// TestStore_LastUse: the last use of a key is recorded when a store is closed, to the minute. A key
// that was used again in the same minute is not written again. A key that was not used has none.
func TestStore_LastUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	key, id := f.addKey()
	_, unused := f.addKey()
	written := func() (minute time.Time, row string) {
		t.Helper()
		s := openStore(t, f.url)
		wantTenant(t, s, key, f.tenant)
		wantTenant(t, s, key, f.tenant)
		s.Close()
		err := f.db.QueryRow(t.Context(), `select last_used_at, ctid::text from api_keys where id = $1`, id).
			Scan(&minute, &row)
		if err != nil {
			t.Fatal(err)
		}
		if !query[bool](f, `select last_used_at = date_trunc('minute', last_used_at) and now() - last_used_at <
			interval '5 minutes' from api_keys where id = $1`, id) {
			t.Errorf("got a last use at %s, want this minute", minute)
		}
		return minute, row
	}
	f.await("two uses in one minute", func() bool {
		minute, row := written()
		again, rowAgain := written()
		if minute.Equal(again) && row != rowAgain {
			t.Errorf("the row was written twice in one minute")
		}
		return minute.Equal(again)
	})
	if !query[bool](f, `select last_used_at is null from api_keys where id = $1`, unused) {
		t.Error("a key that was not used has a last use")
	}
}
