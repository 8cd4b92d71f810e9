package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// readyz returns the response of the process to GET /readyz.
func readyz(t *testing.T, p *process) (status int, body string) {
	t.Helper()
	response, err := plain.Get(p.api + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// TestReady_StandbyAway has a database whose synchronous standby is away. It serves queries and
// takes no payment. The replica is not ready until the standby is not needed any more, and then
// becomes ready by itself.
func TestReady_StandbyAway(t *testing.T) {
	t.Parallel()
	server := parts.OwnPostgres(t)
	i := installIn(t, server.URL, parts.Kafka(t), nil)
	p := i.launch(t, "api")
	wantReady := func(what string, status int, contains string) {
		t.Helper()
		eventually(t, what, func() error {
			got, response := readyz(t, p)
			if got != status || !strings.Contains(response, contains) {
				return fmt.Errorf("got status %d: %s", got, response)
			}
			return nil
		})
	}
	key := newKey()
	create := func() int {
		status, _, _ := post(t, p.api, i.key, key, []byte(order()))
		return status
	}
	wantReady("ready", http.StatusOK, `"ready"`)
	i.execute(t, `alter system set synchronous_standby_names = 'absent'`)
	i.execute(t, `select pg_reload_conf()`)
	wantReady("unready without the standby", http.StatusServiceUnavailable, `"reason":"database_unavailable"`)
	if status := create(); status != http.StatusServiceUnavailable {
		t.Errorf("create: got status %d, want 503", status)
	}
	i.execute(t, `alter system reset synchronous_standby_names`)
	i.execute(t, `select pg_reload_conf()`)
	wantReady("ready again", http.StatusOK, `"ready"`)
	eventually(t, "the retry of the create", func() error {
		if status := create(); status != http.StatusAccepted {
			return fmt.Errorf("got status %d", status)
		}
		return nil
	})
}
