package api

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// has returns how many places a tenant has.
func (w *waitPlaces) has(tenant int32) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if places := w.tenants[tenant]; places != nil {
		return places.Len()
	}
	return 0
}

func isDisplaced(p *waitPlace) bool {
	select {
	case <-p.displaced:
		return true
	default:
		return false
	}
}

// TestWaitPlaces_Fair: tenants that take all places give them up for others, those that have most
// first, until all have the same. The oldest wait goes first.
func TestWaitPlaces_Fair(t *testing.T) {
	t.Parallel()
	const placesMax, tenantMax = 12, 6
	w := newWaitPlaces(placesMax)
	var first []*waitPlace
	for n := range placesMax {
		p := w.take(int32(n%2), tenantMax)
		if p == nil {
			t.Fatalf("request %d: got no place, want one", n)
		}
		first = append(first, p)
	}
	if w.take(0, tenantMax) != nil {
		t.Error("got a place beyond the limit of the tenant")
	}
	for n, want := range []bool{true, true, true, true, false, false} {
		if got := w.take(2, tenantMax) != nil; got != want {
			t.Errorf("request %d of a third tenant: got a place: %t, want %t", n, got, want)
		}
	}
	if a, b, c := w.has(0), w.has(1), w.has(2); a != 4 || b != 4 || c != 4 {
		t.Errorf("got %d, %d and %d places, want 4 each", a, b, c)
	}
	for n, p := range first {
		if got, want := isDisplaced(p), n < 4; got != want {
			t.Errorf("request %d: got it displaced: %t, want %t", n, got, want)
		}
	}
	for tenant := range int32(2) { // Equal tenants do not displace each other.
		if w.take(tenant, tenantMax) != nil {
			t.Errorf("tenant %d: got a fifth place, want none", tenant)
		}
	}
	for _, p := range first { // Also those that are displaced.
		w.leave(p)
		w.leave(p)
	}
	if w.taken != 4 || w.has(2) != 4 || len(w.tenants) != 1 {
		t.Errorf("got %d places taken, want those of the third tenant", w.taken)
	}
}

// TestWaitPlaces_ManyTenants: with more tenants than places, each place belongs to another tenant,
// and the bound holds.
func TestWaitPlaces_ManyTenants(t *testing.T) {
	t.Parallel()
	const placesMax = 8
	w := newWaitPlaces(placesMax)
	for range placesMax {
		w.take(0, placesMax)
	}
	for tenant := range int32(3 * placesMax) {
		got, want := w.take(tenant+1, placesMax) != nil, tenant < placesMax-1
		if got != want || w.taken != placesMax {
			t.Errorf("tenant %d: got a place: %t, want %t; %d are taken", tenant+1, got, want, w.taken)
		}
	}
}

// TestWaitPlaces_Concurrent: places are neither lost nor doubled.
func TestWaitPlaces_Concurrent(t *testing.T) {
	t.Parallel()
	const placesMax = 16
	w := newWaitPlaces(placesMax)
	var requests sync.WaitGroup
	for tenant := range int32(8) {
		for range 8 {
			requests.Go(func() {
				for range 200 {
					if p := w.take(tenant, placesMax/2); p != nil {
						w.leave(p)
					}
				}
			})
		}
	}
	requests.Wait()
	if w.taken != 0 || len(w.tenants) != 0 {
		t.Errorf("got %d places of %d tenants taken, want none", w.taken, len(w.tenants))
	}
}

// TestStatus_WaitDisplaced: a request that loses its place to another tenant's gets the payment as
// it is then.
func TestStatus_WaitDisplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tookMax = 3 * time.Second
		server, memory := newTestServer(t)
		server.store = &slowStore{fakeStore: memory} // The payment is never sent.
		responded := make(chan *httptest.ResponseRecorder, 1)
		began := time.Now()
		go func() {
			responded <- do(t, server, http.MethodGet, "/payments/"+memory.stored.ID.String(), "", "Prefer", "wait=30")
		}()
		synctest.Wait()
		own, other := memory.tenant.ID, memory.tenant.ID+1
		for server.places.has(own) < waitersMax/2+1 {
			server.places.take(own, waitersMax)
		}
		for server.places.take(other, waitersMax/2-1) != nil {
			continue
		}
		time.Sleep(tookMax)
		if len(responded) > 0 {
			t.Fatal("got a response while no other request waits, want none")
		}
		if server.places.take(other+1, 1) == nil {
			t.Fatal("a third tenant got no place, want one")
		}
		w := <-responded
		if took := time.Since(began); took > tookMax {
			t.Errorf("got a response after %s, want it after %s", took, tookMax)
		}
		if w.Code != http.StatusOK || w.Header().Get("Preference-Applied") != "wait=30" {
			t.Errorf("got %d with %v, want 200 and Preference-Applied", w.Code, w.Header())
		}
		if n := metricWith(t, server, "paylatch_waits_total", "result", string(waitDisplaced)); n != 1 {
			t.Errorf("got %v displaced waits counted, want 1", n)
		}
	})
}
