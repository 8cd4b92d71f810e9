package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestStatus_ETag: a version that the client knows is a 304 without a body.
func TestStatus_ETag(t *testing.T) {
	t.Parallel()
	server, store := newTestServer(t)
	target := "/payments/" + store.stored.ID.String()
	w := do(t, server, http.MethodGet, target, "")
	tag := w.Header().Get("Etag")
	if w.Code != http.StatusOK || tag == "" || w.Header().Get("Cache-Control") != "no-store" ||
		w.Header().Get("Vary") != "Authorization, Prefer" {
		t.Fatalf("got %d with header %v, want 200 with Etag, Cache-Control and Vary", w.Code, w.Header())
	}
	for ifNoneMatch, status := range map[string]int{
		tag: 304, "W/" + tag: 304, "*": 304, `"other", ` + tag: 304, `"a",W/"b",` + tag: 304,
		`"other"`: 200, "sent": 200, `"created"`: 200, strings.Trim(tag, `"`): 200,
	} {
		w := do(t, server, http.MethodGet, target, "", "If-None-Match", ifNoneMatch)
		if w.Code != status || w.Header().Get("Etag") != tag {
			t.Errorf("If-None-Match %s: got %d and ETag %s, want %d and %s",
				ifNoneMatch, w.Code, w.Header().Get("Etag"), status, tag)
		}
		if hasBody := w.Body.Len() > 0; hasBody != (status == http.StatusOK) {
			t.Errorf("If-None-Match %s: got %d with a body of %d bytes", ifNoneMatch, w.Code, w.Body.Len())
		}
	}
	seen := map[string]bool{tag: true}
	for _, change := range []func(*payment.Payment){
		func(p *payment.Payment) { p.Emission.Offset++ },
		func(p *payment.Payment) { p.Emission.At = p.Emission.At.Add(time.Microsecond) },
		func(p *payment.Payment) { p.Status = payment.StatusAccepted },
		func(p *payment.Payment) { p.Status, p.Emission = payment.StatusCreated, nil },
	} {
		p := store.stored
		emission := *p.Emission
		p.Emission = &emission
		change(&p)
		changed := versionOf(server, store.tenant).etag(&p)
		if seen[changed] {
			t.Errorf("got ETag %s again, want another one for another version", changed)
		}
		seen[changed] = true
	}
}

// versionOf returns an exchange of a tenant with a server, for its entity tags.
func versionOf(s *Server, t payment.Tenant) *exchange {
	return &exchange{tenant: t, showPosition: s.config.ShowPosition}
}

// TestETag_Opaque: replicas agree on a tag. Other tenants, other payments, other positions and a
// position that is not shown have other tags, and no tag contains what it is made of.
func TestETag_Opaque(t *testing.T) {
	t.Parallel()
	server, store := newTestServer(t)
	replica, _ := newTestServer(t)
	p := store.stored
	tag := versionOf(server, store.tenant).etag(&p)
	if other := versionOf(replica, store.tenant).etag(&p); other != tag {
		t.Errorf("got ETags %s and %s from two replicas, want one", tag, other)
	}
	shown, neighbour := versionOf(server, store.tenant), versionOf(server, store.tenant)
	shown.showPosition = !shown.showPosition
	neighbour.tenant.Salt[0]++
	another := p
	another.ID[0]++
	moved := p
	moved.Partition++
	tags := []string{
		tag, shown.etag(&p), neighbour.etag(&p), versionOf(server, store.tenant).etag(&another),
		versionOf(server, store.tenant).etag(&moved),
	}
	seen := map[string]bool{}
	for _, one := range tags {
		if seen[one] {
			t.Errorf("got %s twice in %v, want five tags", one, tags)
		}
		seen[one] = true
		if len(one) != 24 || strings.Contains(one, "41") && strings.Contains(one, "sent") {
			t.Errorf("got ETag %s, want 22 opaque characters in quotes", one)
		}
	}
}

// TestStatus_Position: where the payment is in Kafka is shown only if the operator says so.
func TestStatus_Position(t *testing.T) {
	t.Parallel()
	for _, show := range []bool{false, true} {
		server, store := newTestServer(t)
		server.config.ShowPosition = show
		target := "/payments/" + store.stored.ID.String()
		for _, w := range []*httptest.ResponseRecorder{
			do(t, server, http.MethodGet, target, ""),
			do(t, server, http.MethodGet, "/payments?idempotency_key=k", ""),
		} {
			body := w.Body.String()
			shown := strings.Contains(body, `"position":{"topic":"payments"`)
			if w.Code != http.StatusOK || shown != show {
				t.Errorf("got %d and %s, want the position shown: %t", w.Code, body, show)
			}
			if !strings.Contains(body, `"sent_at":"`) {
				t.Errorf("got %s, want sent_at", body)
			}
		}
	}
}

// TestStatus_Created: a payment that is not sent yet has Retry-After and no position.
func TestStatus_Created(t *testing.T) {
	t.Parallel()
	server, store := newTestServer(t)
	store.stored.Status, store.stored.Emission = payment.StatusCreated, nil
	w := do(t, server, http.MethodGet, "/payments/"+store.stored.ID.String(), "")
	retryAfter, tag := w.Header().Get("Retry-After"), w.Header().Get("Etag")
	if retryAfter != "1" || tag == "" {
		t.Errorf("got Retry-After %q and ETag %s, want 1 and a tag", retryAfter, tag)
	}
	if body := w.Body.String(); strings.Contains(body, "position") || strings.Contains(body, "sent_at") {
		t.Errorf("got %s, want neither position nor sent_at", body)
	}
}

// TestStatus_MalformedID: an id that no payment can have is not found, without a query.
func TestStatus_MalformedID(t *testing.T) {
	t.Parallel()
	server, store := newTestServer(t)
	server.store = &faultyStore{store, nil}
	id := store.stored.ID.String()
	for _, malformed := range []string{"x", strings.ToUpper(id), "urn:uuid:" + id, id + "0", "%00"} {
		wantProblem(t, do(t, server, http.MethodGet, "/payments/"+malformed, ""), "not_found")
	}
}

// derivedStore records the ids that are looked up.
type derivedStore struct {
	*fakeStore
	found, derived payment.ID
}

func (s *derivedStore) Find(_ context.Context, _ payment.TenantRef, id payment.ID) (payment.Payment, error) {
	s.found = id
	return s.stored, nil
}

func (s *derivedStore) FindDerived(_ context.Context, _ payment.TenantRef, id payment.ID) (payment.Payment, error) {
	s.derived = id
	return s.stored, nil
}

// TestStatus_ByKey: the id is derived from the key. Both forms of a key find the same payment.
func TestStatus_ByKey(t *testing.T) {
	t.Parallel()
	server, memory := newTestServer(t)
	key, err := payment.ParseKey("order-7")
	if err != nil {
		t.Fatal(err)
	}
	want := payment.DeriveID(memory.tenant.Salt, key)
	for _, query := range []string{"order-7", "%22order-7%22"} {
		store := &derivedStore{fakeStore: memory}
		server.store = store
		w := do(t, server, http.MethodGet, "/payments?idempotency_key="+query, "")
		if store.derived != want || store.found != (payment.ID{}) {
			t.Errorf("%s: got id %s by FindDerived and %s by Find, want %s by FindDerived",
				query, store.derived, store.found, want)
		}
		got, url := w.Header().Get("Content-Location"), "/payments/"+memory.stored.ID.String()
		if w.Code != http.StatusOK || got != url {
			t.Errorf("%s: got %d and Content-Location %q, want 200 and %s", query, w.Code, got, url)
		}
	}
	for query, code := range map[string]string{
		"":                                     "query_invalid",
		"?key=a":                               "query_invalid",
		"?idempotency_key=a&idempotency_key=b": "query_invalid",
		"?idempotency_key=a&x=1":               "query_invalid",
		"?idempotency_key=%zz":                 "query_invalid",
		"?idempotency_key=a;b=1":               "query_invalid",
		"?idempotency_key=":                    "idempotency_key_invalid",
		"?idempotency_key=a%20b":               "idempotency_key_invalid",
	} {
		wantProblem(t, do(t, server, http.MethodGet, "/payments"+query, ""), code)
	}
}

// TestCreate_Accepted checks the response to a create, and that a replay shows the same.
func TestCreate_Accepted(t *testing.T) {
	t.Parallel()
	for _, replay := range []bool{false, true} {
		server, memory := newTestServer(t)
		server.store = &slowStore{fakeStore: memory, replay: replay, wasSent: replay}
		w := do(t, server, http.MethodPost, "/payments", sampleBody, "Idempotency-Key", `"`+uuid.NewString()+`"`)
		if w.Code != http.StatusAccepted {
			t.Fatalf("got %d %s, want 202", w.Code, w.Body)
		}
		wantCreateHeaders(t, w, memory.stored.ID, replay)
	}
}

// TestPreferredWait parses values of Prefer.
func TestPreferredWait(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"wait=5": 5 * time.Second, "wait=30": 30 * time.Second,
		"wait=31": preferWaitMax, "wait=999999999": preferWaitMax,
		"Wait = 5": 5 * time.Second, `wait="5"`: 5 * time.Second, "respond-async, wait=5": 5 * time.Second,
		"wait=5; foo=bar": 5 * time.Second, "wait=2,wait=5": 2 * time.Second,
		"": 0, "wait": 0, "wait=": 0, "wait=0": 0, "wait=-1": 0, "wait=1.5": 0, "wait=x": 0, "await=5": 0,
		"wait=9999999999": 0,
	} {
		if got := preferredWait([]string{value}); got != want {
			t.Errorf("Prefer: %s: got %s, want %s", value, got, want)
		}
	}
	if got := preferredWait(nil); got != 0 {
		t.Errorf("no Prefer: got %s, want 0", got)
	}
	if got := preferredWait([]string{"respond-async", "wait=5"}); got != 5*time.Second {
		t.Errorf("two headers: got %s, want 5s", got)
	}
}
