package integration

import (
	"maps"
	"net/http"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// testReady follows a replica from an empty database to its end. While it is not ready, the
// response has the reason.
func (c *contract) testReady(t *testing.T) {
	i := &installation{topic: parts.Topic(), env: maps.Clone(c.installation.env)}
	i.env["PAYLATCH_DATABASE_URL"] = parts.EmptyPostgres(t)
	p := i.launch(t, "api", map[string]string{"PAYLATCH_DRAIN_DELAY": "10m"})
	replica := &contract{
		base: p.api, http: c.http, judge: c.judge, responded: map[string]bool{},
		provoked: map[string]bool{},
	}
	wantReason := func(reason string) {
		t.Helper()
		eventually(t, "the replica is not ready: "+reason, func() error {
			a := replica.get(t, "/readyz", "Authorization", "")
			if a.status == http.StatusOK || a.member(t, "reason") != reason {
				return errNotYet
			}
			a.wantProblem(t, "unavailable")
			a.wantHeaders(t, "Retry-After", "1")
			return nil
		})
		replica.get(t, "/livez", "Authorization", "").want(t, http.StatusOK)
	}
	wantReason("schema_missing")
	run(t, i.env, "migrate", "up")
	wantReason("topic_missing")
	run(t, i.env, "partitions", "init", "--topic", i.topic)
	eventually(t, "the replica is ready", func() error {
		if replica.get(t, "/readyz", "Authorization", "").status != http.StatusOK {
			return errNotYet
		}
		return nil
	})
	p.signal(t)
	wantReason("draining")
	end(t, p)
	c.saw("", "unavailable")
}
