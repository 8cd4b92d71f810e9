package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/test/parts"
)

// testScope uses keys that are restricted. A request beyond the scope of its key has no effect.
func (c *contract) testScope(t *testing.T) {
	env := c.installation.env
	creates := lastWord(run(t, env, "tenants", "add-key", "acme", "--scope", "payments:create", "--expires", "1h"))
	reads := lastWord(run(t, env, "tenants", "add-key", "acme", "--scope", "payments:read", "--note", "reports"))
	key, refused := newKey(), newKey()
	created := c.create(t, key, order(), "Authorization", bearer(creates))
	c.get(t, created.path(), "Authorization", bearer(reads)).want(t, http.StatusOK)
	c.get(t, "/payments?idempotency_key="+key, "Authorization", bearer(reads)).want(t, http.StatusOK)
	for scope, a := range map[string]*response{
		"create": c.post(t, refused, order(), "Authorization", bearer(reads)),
		"read":   c.get(t, created.path(), "Authorization", bearer(creates)),
	} {
		a.wantProblem(t, "insufficient_scope")
		a.wantHeaders(t, "WWW-Authenticate",
			`Bearer realm="paylatch", error="insufficient_scope", scope="payments:`+scope+`"`)
	}
	c.get(t, "/payments?idempotency_key="+key, "Authorization", bearer(creates)).wantProblem(t, "insufficient_scope")
	c.get(t, "/payments?idempotency_key="+refused).wantProblem(t, "not_found")
}

// testRevokedDuringWait revokes a key while a request waits. The wait ends with 401.
func (c *contract) testRevokedDuringWait(t *testing.T) {
	words := strings.Fields(run(t, c.installation.env, "tenants", "add-key", "acme"))
	key := words[len(words)-1]
	sent := c.sent(t, c.create(t, newKey(), order()).path())
	c.get(t, sent.target, "Authorization", bearer(key)).want(t, http.StatusOK) // It is trusted now.
	revoked := make(chan error, 1)
	go func() {
		conn, err := parts.Connect(t.Context(), c.installation.env["PAYLATCH_DATABASE_URL"])
		if err == nil {
			_, err = conn.Exec(t.Context(), `update api_keys set revoked_at = now() where id = $1::text::integer`,
				strings.TrimSuffix(words[3], ","))
			_ = conn.Close(t.Context())
		}
		revoked <- err
	}()
	c.get(t, sent.target, "Authorization", bearer(key), "Prefer", "wait=30", "If-None-Match",
		sent.header.Get("ETag")).wantProblem(t, "unauthorized")
	if err := <-revoked; err != nil {
		t.Fatal(err)
	}
}

// testTestKey uses a live test key in an installation that is not marked for tests.
func (c *contract) testTestKey(t *testing.T) {
	key, err := payment.NewAPIKey("test")
	if err != nil {
		t.Fatal(err)
	}
	hash := key.Hash()
	// The commands add no such key, but one may be left from before the mark was taken back.
	c.installation.execute(t, `insert into api_keys (tenant_id, hash, hint) select id, $1, '' from tenants
		where name = 'foreign'`, hash[:])
	refused := c.get(t, "/payments/7", "Authorization", bearer(key.Reveal()))
	if p := refused.wantProblem(t, "unauthorized"); !strings.Contains(p.Detail, "test key") {
		t.Errorf("got %q, want that it is a test key", p.Detail)
	}
	refused.wantHeaders(t, "WWW-Authenticate", `Bearer realm="paylatch"`)
	// A command marks the installation only without keys for real payments.
	c.installation.execute(t, `insert into test_installation default values`)
	eventually(t, "test keys work", func() error {
		if a := c.get(t, "/payments/7", "Authorization", bearer(key.Reveal())); a.status != http.StatusNotFound {
			return errNotYet
		}
		return nil
	})
}
