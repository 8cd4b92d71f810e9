package integration

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestServe_FewConnections gives a role 6 connections for 12 partitions. The log says what is
// needed. `partitions list` shows which partitions have an owner. Each payment is taken and sent.
func TestServe_FewConnections(t *testing.T) {
	t.Parallel()
	const limit = 6
	i := install(t)
	api, sender, _ := i.groups(t)
	few := i.as(t, api, sender)
	u, err := url.Parse(few["PAYLATCH_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	i.execute(t, fmt.Sprintf("alter role %s connection limit %d", u.User.Username(), limit))
	service := i.launch(t, "serve", few)
	c := newClient(t, i.key, service.api)
	for n := range 40 {
		if _, err := c.Create(t.Context(), uuid.Must(uuid.NewV7()).String(), sample(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	i.drained(t)
	i.wantClean(t, 40)
	if n := i.count(t, `select count(distinct partition) from payments`); n < limit {
		t.Errorf("got payments in %d partitions, want at least %d: nothing was tested", n, limit)
	}
	want := `"msg":"too few database connections","partitions":12,"senders":1,"sessions_needed":14,` +
		`"pooled_connections":16,"allowed":6,"limit_of":"role"`
	if !strings.Contains(service.stderr.String(), want) {
		t.Errorf("got the log\n%s\nwant a line with %s", service.stderr.String(), want)
	}
	list := run(t, i.env, "partitions", "list")
	if owned, none := strings.Count(list, "  process "), strings.Count(list, "  none"); owned == 0 || none == 0 ||
		owned+none != 12 {
		t.Errorf("got %d partitions with an owner and %d without, want some of each and 12 in all:\n%s", owned, none,
			list)
	}
	// A scrape needs a connection, too, so the first one may fail.
	eventually(t, "the metrics count partitions without an owner", func() error {
		metrics := get(t, service.admin+"/metrics")
		if strings.Contains(metrics, "\npaylatch_partitions_unowned 0\n") ||
			!strings.Contains(metrics, "\npaylatch_partitions_unowned ") {
			return errNotYet
		}
		return nil
	})
}
