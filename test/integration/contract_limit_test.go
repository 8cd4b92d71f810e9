package integration

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// limited starts a second service of the installation with limits. It takes payments and sends
// none. Its responses are checked like all others, and count for the coverage.
func (c *contract) limited(t *testing.T, rate, inFlight string) (l *contract, admin string) {
	t.Helper()
	p := c.installation.launch(t, "api", map[string]string{
		"PAYLATCH_TENANT_RATE":      rate,
		"PAYLATCH_TENANT_IN_FLIGHT": inFlight,
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	l = &contract{
		installation: c.installation, base: p.api, topic: c.topic, key: c.key, foreign: c.foreign, revoked: c.revoked,
		http: &http.Client{Transport: transport}, judge: c.judge, responded: map[string]bool{},
		provoked: map[string]bool{},
	}
	t.Cleanup(func() {
		for code := range l.provoked {
			c.saw("", code)
		}
	})
	return l, p.admin
}

// anotherKey gives the tenant one more API key.
func (c *contract) anotherKey(t *testing.T, tenant string) string {
	t.Helper()
	return lastWord(run(t, c.installation.env, "tenants", "add-key", tenant))
}

func bearer(key string) string { return "Bearer " + key }

// testNoRate checks that a service without a rate sends no RateLimit headers.
func (c *contract) testNoRate(t *testing.T) {
	created := c.create(t, newKey(), order())
	for _, a := range []*response{created, c.get(t, created.path()), c.post(t, newKey(), "{"), c.get(t, "/livez")} {
		a.wantHeaders(t, "RateLimit-Policy", "", "RateLimit", "")
	}
}

// testRate allows a tenant one request in a hundred seconds. So the second one is too early,
// however slow the test is. It is refused with all that a client needs to retry, with any key of
// the tenant and for any operation, and has no effect. Concurrently, other tenants are served, and
// so are requests that need no key.
func (c *contract) testRate(t *testing.T) {
	l, admin := c.limited(t, "0.01", "0")
	const policy = `"tenant";q=1;w=100`
	granted := l.create(t, newKey(), order())
	granted.wantHeaders(t, "RateLimit-Policy", policy, "RateLimit", `"tenant";r=0;t=100`)
	wantRefused := func(t *testing.T, a *response) {
		t.Helper()
		a.wantProblem(t, "rate_limited")
		a.wantHeaders(t, "RateLimit-Policy", policy, "RateLimit", `"tenant";r=0;t=`+a.header.Get("Retry-After"))
	}
	early := newKey()
	t.Run("Create", func(t *testing.T) { wantRefused(t, l.post(t, early, order())) })
	t.Run("Status", func(t *testing.T) { wantRefused(t, l.get(t, granted.path())) })
	t.Run("ByKey", func(t *testing.T) { wantRefused(t, l.get(t, "/payments?idempotency_key="+early)) })
	t.Run("OtherKeyOfTheTenant", func(t *testing.T) {
		wantRefused(t, l.post(t, newKey(), order(), "Authorization", bearer(l.anotherKey(t, "acme"))))
	})
	t.Run("OtherTenant", func(t *testing.T) {
		l.create(t, newKey(), order(), "Authorization", bearer(l.foreign)).wantHeaders(t, "RateLimit-Policy", policy,
			"RateLimit", `"tenant";r=0;t=100`)
	})
	// A service without a limit reads the same database.
	t.Run("NothingStored", func(t *testing.T) {
		c.get(t, "/payments?idempotency_key="+early).wantProblem(t, "not_found")
		c.create(t, early, order()).wantHeaders(t, "Idempotent-Replayed", "")
	})
	t.Run("BeforeTheBody", func(t *testing.T) {
		if status := l.expectContinue(t, l.key); status != http.StatusTooManyRequests {
			t.Errorf("got status %d, want that the body is not requested", status)
		}
		if status := c.expectContinue(t, c.key); status != http.StatusContinue {
			t.Errorf("without a limit: got status %d, want 100", status)
		}
	})
	t.Run("FaultsHaveTheRate", func(t *testing.T) {
		faulty := l.post(t, newKey(), "{", "Authorization", bearer(l.installation.tenant(t, "faulty")))
		faulty.wantProblem(t, "malformed_json")
		faulty.wantHeaders(t, "RateLimit-Policy", policy, "RateLimit", `"tenant";r=0;t=100`)
	})
	// Requests without a key are not limited, and their responses show no tenant's use.
	t.Run("WithoutKey", func(t *testing.T) {
		for range 3 {
			for path, status := range map[string]int{
				"/livez": 200, "/readyz": 200, "/openapi.json": 200,
				"/problems/rate_limited": 200, "/payments/7": 401,
			} {
				a := l.get(t, path, "Authorization", "")
				a.want(t, status)
				a.wantHeaders(t, "RateLimit-Policy", "", "RateLimit", "")
			}
		}
		l.get(t, "/payments/7", "Authorization", bearer(l.revoked)).wantHeaders(t, "RateLimit-Policy", "", "RateLimit",
			"")
	})
	t.Run("Counted", func(t *testing.T) {
		metrics := get(t, admin+"/metrics")
		if !strings.Contains(metrics, `paylatch_refusals_total{code="rate_limited"} `) {
			t.Errorf("got the metrics\n%s\nwant a count of the refusals", metrics)
		}
	})
}

// testInFlight fills the in-flight limit of a tenant with waiting requests. One more is refused,
// with any key of the tenant. Another tenant is served. Once a waiting request ends, the same
// create is taken.
func (c *contract) testInFlight(t *testing.T) {
	l, _ := c.limited(t, "0", "1")
	sent := c.sent(t, c.create(t, newKey(), order()).path())
	early, second := newKey(), l.anotherKey(t, "acme")
	leave := l.hold(t, sent)
	l.awaitRefusal(t, sent.target)
	for _, a := range []*response{
		l.post(t, early, order()), l.get(t, sent.target), l.get(t, sent.target, "Prefer", "wait=1"),
		l.post(t, early, order(), "Authorization", bearer(second)),
	} {
		a.wantProblem(t, "too_many_in_flight")
		a.wantHeaders(t, "Retry-After", "1", "RateLimit-Policy", "", "RateLimit", "")
	}
	l.create(t, newKey(), order(), "Authorization", bearer(l.foreign))
	l.get(t, "/readyz", "Authorization", "").want(t, http.StatusOK)
	c.get(t, "/payments?idempotency_key="+early).wantProblem(t, "not_found")
	leave()
	eventually(t, "a create is admitted again", func() error {
		a := l.post(t, early, order())
		if a.status == http.StatusTooManyRequests {
			return errNotYet
		}
		a.want(t, http.StatusAccepted)
		a.wantHeaders(t, "Idempotent-Replayed", "")
		return nil
	})
}

// testInFlightShare has a limit of three requests, of which two may wait. A third request that
// wants to wait gets its response at once, and a create uses the remaining slot. A create whose
// body arrives slowly occupies it, too.
func (c *contract) testInFlightShare(t *testing.T) {
	l, _ := c.limited(t, "0", "3")
	sent := c.sent(t, c.create(t, newKey(), order()).path())
	l.hold(t, sent)
	l.hold(t, sent)
	eventually(t, "two requests wait", func() error {
		a := l.get(t, sent.target, "Prefer", "wait=1", "If-None-Match", sent.header.Get("ETag"))
		if a.header.Get("Preference-Applied") != "" || a.status == http.StatusTooManyRequests {
			return errNotYet
		}
		a.want(t, http.StatusNotModified)
		return nil
	})
	l.create(t, newKey(), order())
	if status := l.expectContinue(t, l.key); status != http.StatusContinue {
		t.Fatalf("got status %d, want 100", status)
	}
	l.get(t, sent.target).wantProblem(t, "too_many_in_flight")
}

// hold makes a request wait until the returned function is called or the test ends. The request is
// repeated while it is refused.
func (c *contract) hold(t *testing.T, sent *response) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+sent.target, nil)
			if err != nil {
				return
			}
			r.Header = http.Header{
				"Authorization": {bearer(c.key)}, "Prefer": {"wait=30"},
				"If-None-Match": {sent.header.Get("ETag")},
			}
			if response, err := c.http.Do(r); err == nil {
				_ = response.Body.Close()
			}
		}
	}()
	leave = func() {
		cancel()
		<-done
	}
	t.Cleanup(leave)
	return leave
}

// awaitRefusal repeats a request until the limit refuses it.
func (c *contract) awaitRefusal(t *testing.T, target string) {
	t.Helper()
	eventually(t, "the tenant has no request left", func() error {
		a := c.get(t, target)
		if a.status != http.StatusTooManyRequests {
			return errNotYet
		}
		a.wantProblem(t, "too_many_in_flight")
		return nil
	})
}

// expectContinue announces a create with Expect: 100-continue, and returns the status of the first
// response: 100 if the service requests the body. The body is never sent.
func (c *contract) expectContinue(t *testing.T, key string) int {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		t.Fatal(err)
	}
	const create = "POST /payments HTTP/1.1\r\nHost: paylatch\r\nAuthorization: %s\r\n" +
		"Content-Type: application/json\r\nIdempotency-Key: %s\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
	if _, err := fmt.Fprintf(conn, create, bearer(key), newKey()); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
