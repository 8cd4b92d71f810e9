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

// TestCreate_ConcurrentOverReplicas: a client that retries fast, through a balancer that sends it
// anywhere, makes one payment. 200 identical requests go to three API processes at once; one row
// and one record come of it, one answer is the original, and all answers are alike.
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
				t.Errorf("answer %d: %s", status, response)
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
		t.Errorf("%d originals, %d replays, %d different bodies; want 1, %d, 1", originals, replays, len(bodies),
			requests-1)
	}
	i.drained(t)
	if rows := i.count(t, `select count(*) from payments`); rows != 1 {
		t.Errorf("%d rows", rows)
	}
	if records := i.records(t); len(records) != 1 {
		t.Errorf("%d records", len(records))
	}
}

// TestCreate_TwoTenantsWithOneKey: the key belongs to the tenant, so two tenants that use the same
// one have a payment each, and neither sees the other's.
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
		t.Errorf("payments %s and %s, replayed %v and %v", ours.ID, theirs.ID, ours.Replayed, theirs.Replayed)
	}
	if found, err := globex.FindByKey(t.Context(), key); err != nil || found.ID != theirs.ID {
		t.Errorf("globex finds %s by the key: %v", found.ID, err)
	}
	if p, err := globex.Get(t.Context(), ours.ID); err == nil {
		t.Errorf("globex sees acme's payment %s", p.ID)
	}
	i.drained(t)
	if records := i.records(t); len(records) != 2 {
		t.Errorf("%d records", len(records))
	}
}

// TestTenants_RevokedKey: a revoked key stops working on every replica within 5 s, also where it
// was used just before, and the tenant's other keys go on.
func TestTenants_RevokedKey(t *testing.T) {
	t.Parallel()
	i := install(t)
	apis := []string{i.launch(t, "api").api, i.launch(t, "api").api}
	second := lastWord(run(t, i.env, "tenants", "add-key", "acme", "--env", "test"))
	status := func(api, key string) int {
		code, _, _ := post(t, api, key, "k", []byte(`{}`))
		return code
	}
	for _, api := range apis {
		if got := status(api, i.key); got != http.StatusUnprocessableEntity {
			t.Fatalf("before: %d", got)
		}
	}
	run(t, i.env, "tenants", "revoke-key", "acme", "1")
	time.Sleep(5 * time.Second) // The contract's own figure: afterwards no replica may take the key.
	for n, api := range apis {
		if got := status(api, i.key); got != http.StatusUnauthorized {
			t.Errorf("replica %d answers %d to the revoked key", n, got)
		}
		if got := status(api, second); got != http.StatusUnprocessableEntity {
			t.Errorf("replica %d answers %d to the other key", n, got)
		}
	}
}

// post makes one request as it is, without the client's retries.
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

// plain is a client that keeps no connections, so that none outlives its test.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
