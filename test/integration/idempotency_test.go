package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestCreate_ConcurrentOverReplicas sends 200 identical requests to three API processes at once, as
// a client that retries fast through a balancer. They make one row and one record. One response is
// the original, and all have the same body.
func TestCreate_ConcurrentOverReplicas(t *testing.T) {
	t.Parallel()
	const requests = 200
	i := install(t)
	replicas := []*process{i.launch(t, "api"), i.launch(t, "api"), i.launch(t, "serve")}
	body, err := json.Marshal(sample("1"))
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu        sync.Mutex
		originals int
		replays   int
		bodies    = map[string]int{}
		all       sync.WaitGroup
		begin     = make(chan struct{})
	)
	for n := range requests {
		all.Go(func() {
			<-begin
			status, header, response := post(t, replicas[n%len(replicas)].api, i.key, "one-key", body)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case status != http.StatusAccepted:
				t.Errorf("got status %d, want 202: %s", status, response)
			case header.Get("Idempotent-Replayed") == "true":
				replays++
			default:
				originals++
			}
			bodies[response]++
		})
	}
	close(begin)
	all.Wait()
	if originals != 1 || replays != requests-1 || len(bodies) != 1 {
		t.Errorf("got %d originals, %d replays, %d different bodies, want 1, %d, 1", originals, replays, len(bodies),
			requests-1)
	}
	i.drained(t)
	if rows := i.count(t, `select count(*) from payments`); rows != 1 {
		t.Errorf("got %d rows, want 1", rows)
	}
	if records := i.records(t); len(records) != 1 {
		t.Errorf("got %d records, want 1", len(records))
	}
}

// TestCreate_TwoTenantsWithOneKey uses one key for two tenants. Each gets a payment of its own, and
// neither sees the other's.
func TestCreate_TwoTenantsWithOneKey(t *testing.T) {
	t.Parallel()
	i := install(t)
	api := i.launch(t, "serve").api
	acme, globex := newClient(t, i.key, api), newClient(t, i.tenant(t, "globex"), api)
	const key = "2026-11-23/1"
	ours, err := acme.Create(t.Context(), key, sample("1"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := globex.Create(t.Context(), key, sample("2"))
	if err != nil {
		t.Fatal(err)
	}
	if ours.ID == theirs.ID || ours.Replayed || theirs.Replayed {
		t.Errorf("got payments %s and %s, replayed %v and %v, want two originals", ours.ID, theirs.ID, ours.Replayed,
			theirs.Replayed)
	}
	if found, err := globex.FindByKey(t.Context(), key); err != nil || found.ID != theirs.ID {
		t.Errorf("globex by key: got payment %s and error %v, want %s", found.ID, err, theirs.ID)
	}
	if p, err := globex.Get(t.Context(), ours.ID); err == nil {
		t.Errorf("globex: got acme's payment %s, want an error", p.ID)
	}
	i.drained(t)
	if records := i.records(t); len(records) != 2 {
		t.Errorf("got %d records, want 2", len(records))
	}
}

// TestTenants_RevokedKey shows that every replica refuses a revoked key within 5 s, also if it has
// just accepted it. Other keys of the tenant stay valid.
func TestTenants_RevokedKey(t *testing.T) {
	t.Parallel()
	i := install(t)
	apis := []string{i.launch(t, "api").api, i.launch(t, "api").api}
	second := lastWord(run(t, i.env, "tenants", "add-key", "acme"))
	status := func(api, key string) int {
		code, _, _ := post(t, api, key, "k", []byte(`{}`))
		return code
	}
	for _, api := range apis {
		if got := status(api, i.key); got != http.StatusUnprocessableEntity {
			t.Fatalf("before the revocation: got status %d, want 422", got)
		}
	}
	run(t, i.env, "tenants", "revoke-key", "acme", "1")
	// The contract promises 5 s. After that no replica may accept the key.
	time.Sleep(5 * time.Second)
	for n, api := range apis {
		if got := status(api, i.key); got != http.StatusUnauthorized {
			t.Errorf("replica %d, revoked key: got status %d, want 401", n, got)
		}
		if got := status(api, second); got != http.StatusUnprocessableEntity {
			t.Errorf("replica %d, other key: got status %d, want 422", n, got)
		}
	}
}

// post makes one request, without the retries of the client.
func post(t *testing.T, api, apiKey, idempotencyKey string, body []byte) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api+"/payments", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, nil, ""
	}
	r.Header.Set("Authorization", "Bearer "+apiKey)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", idempotencyKey)
	response, err := plain.Do(r)
	if err != nil {
		t.Error(err)
		return 0, nil, ""
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, response.Header, string(content)
}

// plain is a client that keeps no connections, so none outlives its test.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
