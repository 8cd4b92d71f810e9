package integration

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestServe_FewConnections: a role may have 6 connections, and there are 12 partitions. What is
// needed is logged, `partitions list` shows which partitions have an owner now, and each payment is
// taken and sent.
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
		t.Errorf("the payments are in %d partitions only: nothing was tested", n)
	}
	want := `"msg":"too few database connections","partitions":12,"senders":1,"sessions_needed":14,` +
		`"pooled_connections":16,"allowed":6,"limit_of":"role"`
	if !strings.Contains(service.stderr.String(), want) {
		t.Errorf("the log does not say %s", want)
	}
	list := run(t, i.env, "partitions", "list")
	if owned, none := strings.Count(list, "  process "), strings.Count(list, "  none"); owned == 0 || none == 0 ||
		owned+none != 12 {
		t.Errorf("%d partitions have an owner and %d have none, of 12:\n%s", owned, none, list)
	}
	eventually(t, "the metrics say that partitions have no owner", func() error { // A scrape needs a connection, too.
		metrics := get(t, service.admin+"/metrics")
		if strings.Contains(metrics, "\npaylatch_partitions_unowned 0\n") ||
			!strings.Contains(metrics, "\npaylatch_partitions_unowned ") {
			return errNotYet
		}
		return nil
	})
}
