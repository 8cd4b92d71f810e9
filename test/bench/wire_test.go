//go:build linux

package main

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestRequests: what the generator sends is what a client would send: whole HTTP, a UUIDv7 as the
// key, content that passes our checks, and never the same key twice.
func TestRequests(t *testing.T) {
	stamp := time.Unix(1_790_000_000, 123_456_789)
	for _, stamped := range []bool{false, true} {
		r := newRequests("pl_live_x", 1_000_000, stamped, rand.New(rand.NewPCG(1, 2)))
		if random, err := uuid.Parse(randomKey(r)); err != nil || random.Version() != 4 ||
			random.Variant() != uuid.RFC4122 {
			t.Fatalf("random key %s: %v", random, err)
		}
		keys := map[string]bool{}
		for range people {
			request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.create(stamp))))
			if err != nil {
				t.Fatal(err)
			}
			key, err := uuid.Parse(request.Header.Get("Idempotency-Key"))
			if err != nil || key.Version() != 7 || key.Variant() != uuid.RFC4122 {
				t.Fatalf("key %s: %v", request.Header.Get("Idempotency-Key"), err)
			}
			if sec, _ := key.Time().UnixTime(); time.Since(time.Unix(sec, 0)).Abs() > time.Minute {
				t.Fatalf("key %s is of another time", key)
			}
			keys[key.String()] = true
			p, _, err := read(payment.Tenant{TenantRef: payment.TenantRef{ID: 1, Name: "acme"}},
				httptest.NewRecorder(), request)
			if err != nil {
				t.Fatal(err)
			}
			if want := "INV-1790000000123456789"; stamped && p.Reference != want {
				t.Fatalf("reference %s, want %s", p.Reference, want)
			}
		}
		if len(keys) != people {
			t.Errorf("%d keys in %d requests", len(keys), people)
		}
		query, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.read())))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := payment.ParseID(strings.TrimPrefix(query.URL.Path, "/payments/")); err != nil {
			t.Errorf("%s: %v", query.URL.Path, err)
		}
	}
}

func randomKey(r *requests) string {
	key := make([]byte, len(keyGap))
	copy(key, keyGap)
	r.v4 = true
	r.putKey(key)
	r.v4 = false
	return string(key)
}

// TestGenerator shows that every response is counted, in the closed loop and at a rate, and that an
// unexpected response is an error.
func TestGenerator(t *testing.T) {
	var status atomic.Int32
	status.Store(http.StatusAccepted)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			w.WriteHeader(int(status.Load()))
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	}))
	defer server.Close()
	run := func(o order) (result, error) {
		o.Address, o.APIKey = strings.TrimPrefix(server.URL, "http://"), "pl_live_x"
		var r result
		err := generate(t.Context(), job{Order: o}, func(reported any) error { r = reported.(result); return nil })
		return r, err
	}
	if r, err := run(order{Connections: 8, Count: 1000, Creates: 1, Reads: 3, Stored: 10}); err != nil ||
		r.Done < 1000 || r.All.P50 <= 0 || r.Create.P50 <= 0 || r.Read.P50 <= 0 {
		t.Errorf("closed loop: %+v, %v", r, err)
	}
	if r, err := run(order{Connections: 8, For: time.Second, Rate: 500, Creates: 1}); err != nil || r.Done != 500 {
		t.Errorf("open model: %+v, %v", r, err)
	}
	status.Store(http.StatusTooManyRequests)
	if r, err := run(order{Connections: 8, Count: 100, Creates: 1, Refusals: true}); err != nil || r.Refused != r.Done {
		t.Errorf("429 that is expected: %+v, %v", r, err)
	}
	if _, err := run(order{Connections: 8, Count: 100, Creates: 1}); err == nil ||
		!strings.Contains(err.Error(), "got status 429, want 202") {
		t.Errorf("429 that is not expected: %v", err)
	}
}
