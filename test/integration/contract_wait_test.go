package integration

import (
	"bytes"
	"net/http"
	"testing"
)

// testCreateWait creates with Prefer: wait. The response is that of the status once the payment is
// sent. A replay gets it at once.
func (c *contract) testCreateWait(t *testing.T) {
	key := newKey()
	first := c.post(t, key, order(), "Prefer", "wait=30")
	first.want(t, http.StatusOK)
	path := first.header.Get("Content-Location")
	status := c.get(t, path)
	status.want(t, http.StatusOK)
	wantStatus := func(t *testing.T, a *response, replayed string) {
		t.Helper()
		a.want(t, http.StatusOK)
		a.wantHeaders(t, "Content-Location", path, "Preference-Applied", "wait=30", "ETag", status.header.Get("ETag"),
			"Cache-Control", "no-store", "Vary", "Authorization, Prefer", "Content-Type", "application/json",
			"Idempotent-Replayed", replayed, "Location", "", "Retry-After", "")
		if !bytes.Equal(a.body, status.body) {
			t.Errorf("create: got\n%s, want as the status\n%s", a.body, status.body)
		}
	}
	wantStatus(t, first, "")
	wantStatus(t, c.post(t, key, order(), "Prefer", "wait=31"), "true")
	t.Run("KnownVersion", func(t *testing.T) { // If-None-Match is for reads.
		wantStatus(t, c.post(t, key, order(), "Prefer", "wait=30", "If-None-Match", status.header.Get("ETag")), "true")
	})
	for name, prefer := range map[string]string{"None": "", "Zero": "wait=0", "Unreadable": "wait=soon"} {
		t.Run(name, func(t *testing.T) {
			a := c.create(t, key, order(), "Prefer", prefer)
			a.wantHeaders(t, "Idempotent-Replayed", "true", "Location", path, "Retry-After", "1", "Preference-Applied",
				"",
				"Content-Location", "", "ETag", "", "Vary", "", "Cache-Control", "no-store")
			if got := a.member(t, "status"); got != "created" {
				t.Errorf("got status %v in a 202, want created", got)
			}
		})
	}
	t.Run("Refused", func(t *testing.T) {
		c.post(t, key, order(with("/amount", 1)), "Prefer", "wait=30").wantProblem(t, "idempotency_key_reused")
		c.post(t, newKey(), order(with("/amount", 0)), "Prefer", "wait=30").wantProblem(t, "invalid_payment")
	})
}

// testCreateWaitNoSender creates while no sender runs. A wait that ends without a change gets the
// response of a create without a wait, and so does its replay.
func (c *contract) testCreateWaitNoSender(t *testing.T) {
	alone := newContractOf(t, "api", c)
	key := newKey()
	want := alone.post(t, key, order(), "Prefer", "wait=1")
	want.want(t, http.StatusAccepted)
	for _, prefer := range []string{"", "wait=1"} {
		a := alone.create(t, key, order(), "Prefer", prefer)
		a.wantHeaders(t, "Idempotent-Replayed", "true", "Location", want.path(), "Retry-After", "1",
			"Preference-Applied", "")
		if !bytes.Equal(a.body, want.body) {
			t.Errorf("replay: got\n%s, want the original\n%s", a.body, want.body)
		}
	}
}
