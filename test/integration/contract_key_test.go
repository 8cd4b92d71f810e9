package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// testKey sends all kinds of Idempotency-Key. A payment is found again by its key, bare or quoted.
func (c *contract) testKey(t *testing.T) {
	t.Run("Missing", func(t *testing.T) {
		c.do(t, http.MethodPost, "/payments", order(), "Content-Type", "application/json").
			wantProblem(t, "idempotency_key_missing")
	})
	t.Run("Twice", func(t *testing.T) {
		c.post(t, newKey(), order(), "Idempotency-Key", newKey()).wantProblem(t, "idempotency_key_invalid")
	})
	for name, key := range refusedKeys() {
		t.Run("Refused/"+name, func(t *testing.T) { c.post(t, key, order()).wantProblem(t, "idempotency_key_invalid") })
	}
	unique := newKey()
	for name, key := range map[string]struct{ bare, quoted string }{
		"Longest":     {unique + strings.Repeat("k", 255-len(unique)), ""},
		"Visible":     {"!#$%&'()*+,-./:;<=>?@[]^_`{|}~" + unique, ""},
		"QuoteInside": {unique + `"x`, `"` + unique + `\"x"`},
		"Backslash":   {unique + `\x`, `"` + unique + `\\x"`},
		"LongEscapes": {
			unique + strings.Repeat(`\`, 255-len(unique)),
			`"` + unique + strings.Repeat(`\\`, 255-len(unique)) + `"`,
		},
	} {
		t.Run("Accepted/"+name, func(t *testing.T) {
			if key.quoted == "" {
				key.quoted = `"` + key.bare + `"`
			}
			created := c.create(t, key.quoted, order())
			c.create(t, key.bare, order()).wantHeaders(t, "Location", created.path(), "Idempotent-Replayed", "true")
			for _, form := range []string{key.bare, key.quoted} {
				found := c.get(t, "/payments?idempotency_key="+url.QueryEscape(form))
				found.want(t, http.StatusOK)
				found.wantHeaders(t, "Content-Location", created.path())
			}
		})
	}
}

// refusedKeys returns texts that are no idempotency keys, neither in a header nor in a query.
func refusedKeys() map[string]string {
	return map[string]string{
		"Empty": "", "BlankInside": "a b", "TooLong": strings.Repeat("k", 256),
		"TooLongQuoted": `"` + strings.Repeat("k", 256) + `"`, "NotASCII": "clé",
		"EmptyQuoted": `""`, "Unterminated": `"a`, "QuoteAlone": `"`, "BeyondTheQuotes": `"a"b`, "OtherEscape": `"a\b"`,
		"EscapedEnd":  `"a\"`,
		"BlankQuoted": `"a b"`, "TabInside": "a\tb", "QuoteFirst": `"\"a"`,
	}
}

// testUnauthorized sends every kind of invalid API key to every operation that needs one.
func (c *contract) testUnauthorized(t *testing.T) {
	path := c.create(t, newKey(), order()).path()
	typo := []byte(c.key)
	typo[len(typo)-10] ^= 1 // The checksum does not match now.
	for name, authorization := range map[string]string{
		"None": "", "Basic": "Basic dXNlcjpwYXNz", "SchemeAlone": "Bearer", "NoScheme": c.key,
		"Mistyped": "Bearer " + string(typo),
		"CutOff":   "Bearer " + c.key[:len(c.key)-1], "NoKey": "Bearer let-me-in", "Twice": "Bearer " + c.key + " " +
			c.key,
		"Unknown": "Bearer " + unknownKey(t), "Revoked": "Bearer " + c.revoked,
	} {
		t.Run(name, func(t *testing.T) {
			for _, a := range []*response{
				c.post(t, newKey(), order(), "Authorization", authorization),
				c.get(t, path, "Authorization", authorization),
				c.get(t, "/payments?idempotency_key=k", "Authorization", authorization),
			} {
				a.wantProblem(t, "unauthorized")
				a.wantHeaders(t, "WWW-Authenticate", `Bearer realm="paylatch"`)
			}
		})
	}
	t.Run("TwoHeaders", func(t *testing.T) {
		c.get(t, path, "Authorization", bearer(c.key), "Authorization", bearer(c.foreign)).
			wantProblem(t, "unauthorized")
	})
	// The key is checked first, so a client without one learns of no other fault.
	t.Run("FirstOfAll", func(t *testing.T) {
		c.do(t, http.MethodPost, "/payments", "", "Authorization", "").wantProblem(t, "unauthorized")
	})
	t.Run("SchemeInAnyCase", func(t *testing.T) {
		c.get(t, path, "Authorization", "bEARER "+c.key).want(t, http.StatusOK)
	})
}

// unknownKey is a well-formed API key that no tenant has.
func unknownKey(t *testing.T) string {
	t.Helper()
	key, err := payment.NewAPIKey("test")
	if err != nil {
		t.Fatal(err)
	}
	return key.Reveal()
}

// testTenants shows that two tenants may use one key, and that neither sees payments of the other.
func (c *contract) testTenants(t *testing.T) {
	key, foreign := newKey(), "Bearer "+c.foreign
	ours := c.create(t, key, order())
	for name, target := range map[string]string{"ID": ours.path(), "Key": "/payments?idempotency_key=" + key} {
		t.Run(name, func(t *testing.T) {
			got := c.get(t, target, "Authorization", foreign).wantProblem(t, "not_found")
			unknown := c.get(t, "/payments?idempotency_key="+newKey(), "Authorization", foreign).
				wantProblem(t, "not_found")
			if got.Detail != unknown.Detail {
				t.Errorf("a foreign payment: got detail %q, want that of an unknown one, %q", got.Detail,
					unknown.Detail)
			}
		})
	}
	theirs := c.create(t, key, order(with("/amount", 7)), "Authorization", foreign)
	theirs.wantHeaders(t, "Idempotent-Replayed", "")
	if theirs.path() == ours.path() {
		t.Errorf("got payment %s for two tenants, want one for each", ours.path())
	}
	c.get(t, theirs.path()).wantProblem(t, "not_found")
}
