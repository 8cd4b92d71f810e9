package api

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestAuthorization_Several: a request with two headers is refused, in whatever order they are, and
// also if both have the same key. The store is not queried.
func TestAuthorization_Several(t *testing.T) {
	t.Parallel()
	server, memory := newTestServer(t)
	server.store = &keyStore{fakeStore: memory}
	r := request(t, http.MethodGet, "/payments/"+memory.stored.ID.String(), "")
	one := r.Header.Get("Authorization")
	for name, values := range map[string][]string{
		"Same": {one, one}, "Other": {one, "Basic dXNlcjpwYXNz"}, "First": {"", one}, "Empty": {one, ""},
		"List": {one + ", " + one},
	} {
		r.Header["Authorization"] = values
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if p := wantProblem(t, w, "unauthorized"); w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: got no WWW-Authenticate, and %s", name, p.Detail)
		}
	}
	r.Header["Authorization"] = []string{one}
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	if checked := server.store.(*keyStore).checked; w.Code != http.StatusOK || checked != 1 {
		t.Errorf("one header: got %d, and %d keys were checked; want 200 and 1", w.Code, checked)
	}
}

// keyStore is a fakeStore that counts the keys that are checked, and refuses all after revoked.
type keyStore struct {
	*fakeStore
	checked int
	revoked bool
	creates int
}

func (s *keyStore) Authenticate(ctx context.Context, key payment.APIKeyHash) (payment.Access, error) {
	s.checked++
	if s.revoked {
		return payment.Access{}, payment.ErrUnauthorized
	}
	return s.fakeStore.Authenticate(ctx, key)
}

func (s *keyStore) Create(ctx context.Context, p payment.Payment) (payment.Payment, bool, error) {
	s.creates++
	return s.fakeStore.Create(ctx, p)
}

// TestCreate_KeyRevokedDuringBody: a key is revoked while the body arrives. Nothing is stored.
func TestCreate_KeyRevokedDuringBody(t *testing.T) {
	t.Parallel()
	server, memory := newTestServer(t)
	store := &keyStore{fakeStore: memory}
	server.store = store
	r := request(t, http.MethodPost, "/payments", sampleBody)
	r.Body = io.NopCloser(io.MultiReader(&revocation{store}, r.Body))
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	wantProblem(t, w, "unauthorized")
	if store.creates != 0 || !store.revoked {
		t.Errorf("got %d payments stored, revoked %t; want 0 and true", store.creates, store.revoked)
	}
}

// accessStore is a fakeStore whose keys give access.
type accessStore struct {
	*fakeStore
	access payment.Access
}

func (s *accessStore) Authenticate(context.Context, payment.APIKeyHash) (payment.Access, error) {
	return s.access, nil
}

// TestScope: a key without the scope of an operation gets 403, which names the scope (RFC 6750).
func TestScope(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		method, scope string
		scopes        payment.Scopes
		target        string
		allowed       bool
	}{
		{"POST", "payments:create", payment.Scopes{Create: true}, "", true},
		{"POST", "payments:create", payment.Scopes{Read: true}, "", false},
		{"POST", "payments:create", payment.Scopes{}, "", false},
		{"GET", "payments:read", payment.Scopes{Read: true}, "/id", true},
		{"GET", "payments:read", payment.Scopes{Create: true}, "/id", false},
		{"HEAD", "payments:read", payment.Scopes{Create: true}, "/id", false},
		{"GET", "payments:read", payment.Scopes{Read: true}, "?idempotency_key=k", true},
		{"GET", "payments:read", payment.Scopes{Create: true}, "?idempotency_key=k", false},
	} {
		server, memory := newTestServer(t)
		access := payment.Access{Tenant: memory.tenant, Scopes: row.scopes}
		server.store = &accessStore{memory, access}
		target := "/payments" + strings.Replace(row.target, "/id", "/"+memory.stored.ID.String(), 1)
		w := do(t, server, row.method, target, sampleBody)
		if row.allowed {
			if w.Code >= 300 {
				t.Errorf("%+v: got %d, want a success", row, w.Code)
			}
			continue
		}
		want := `Bearer realm="paylatch", error="insufficient_scope", scope="` + row.scope + `"`
		if got := w.Header().Get("WWW-Authenticate"); w.Code != http.StatusForbidden || got != want {
			t.Errorf("%+v: got %d and %s, want 403 and %s", row, w.Code, got, want)
		}
		if row.method != http.MethodHead {
			if p := wantProblem(t, w, "insufficient_scope"); !strings.Contains(p.Detail, row.scope) {
				t.Errorf("%+v: got %s, want the scope", row, p.Detail)
			}
		}
	}
}

// TestTestKey: a test key that is live works in a test installation, and in no other.
func TestTestKey(t *testing.T) {
	t.Parallel()
	for env, works := range map[string]bool{"test": false, "dev": false, "live": true, "staging": true} {
		key, err := payment.NewAPIKey(env)
		if err != nil {
			t.Fatal(err)
		}
		for _, marked := range []bool{true, false} {
			server, memory := newTestServer(t)
			server.store = &accessStore{memory, payment.Access{
				Tenant: memory.tenant, Scopes: payment.AllScopes, TestInstallation: marked,
			}}
			w := do(t, server, http.MethodGet, "/payments/"+memory.stored.ID.String(), "",
				"Authorization", "Bearer "+key.Reveal())
			if works || marked {
				if w.Code != http.StatusOK {
					t.Errorf("%s, marked %t: got %d, want 200", env, marked, w.Code)
				}
			} else if p := wantProblem(t, w, "unauthorized"); !strings.Contains(p.Detail, "test installation") {
				t.Errorf("%s: got %q, want what is wrong with the key", env, p.Detail)
			}
		}
	}
}

// revocation is an empty part of a body. The key is revoked when it is read.
type revocation struct{ store *keyStore }

func (r *revocation) Read([]byte) (int, error) {
	r.store.revoked = true
	return 0, io.EOF
}
