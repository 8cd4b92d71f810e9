package api

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
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

// revocation is an empty part of a body. The key is revoked when it is read.
type revocation struct{ store *keyStore }

func (r *revocation) Read([]byte) (int, error) {
	r.store.revoked = true
	return 0, io.EOF
}
