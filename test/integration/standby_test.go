package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// TestCreate_StandbyAway checks that nothing is reported that no synchronous standby can confirm,
// since a failover could undo it. The standby never connects. A create, its retries and every query
// get 503, also for an older payment, because a replica cannot know which rows the standby has. An
// operator who cancels the waits only makes rows visible.
func TestCreate_StandbyAway(t *testing.T) {
	t.Parallel()
	server := parts.OwnPostgres(t)
	i := installIn(t, server.URL, parts.Kafka(t), nil)
	api := i.launch(t, "serve").api
	body, other := marshal(t, sample("1")), marshal(t, sample("2"))
	older := awayCase{t, api, i.key, "older", body}
	older.wantPost(http.StatusAccepted)

	i.execute(t, `alter system set synchronous_standby_names = 'absent'`)
	i.execute(t, `select pg_reload_conf()`)
	// settings counts the payments that are created before PostgreSQL has read its settings.
	settings := 0
	eventually(t, "commits wait", func() error {
		settings++
		if got := (awayCase{
			t, api, i.key, fmt.Sprint("settings-", settings),
			body,
		}).post(); got != http.StatusServiceUnavailable {
			return errNotYet
		}
		return nil
	})
	waiting := awayCase{t, api, i.key, "waiting", body}
	for range 4 {
		waiting.wantPost(http.StatusServiceUnavailable)
	}
	var all sync.WaitGroup
	for _, refused := range []func(int){
		waiting.wantGet, older.wantPost, older.wantGet,
		awayCase{t, api, i.key, "older", other}.wantPost, // Not 422.
		awayCase{t, api, i.key, "unused", body}.wantGet,  // Not 404.
	} {
		all.Go(func() { refused(http.StatusServiceUnavailable) })
	}
	all.Wait()

	eventually(t, "the row is visible", func() error {
		i.execute(t, `select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`)
		if i.count(t, `select count(*) from payments`) < settings+2 { // 2 for older and waiting.
			return errNotYet
		}
		return nil
	})
	all.Go(func() { waiting.wantPost(http.StatusServiceUnavailable) })
	all.Go(func() { waiting.wantGet(http.StatusServiceUnavailable) })
	all.Wait()

	i.execute(t, `alter system reset synchronous_standby_names`)
	i.execute(t, `select pg_reload_conf()`)
	eventually(t, "the waits have ended", func() error {
		if got := waiting.post(); got == http.StatusServiceUnavailable {
			return errNotYet
		}
		return nil
	})
	waiting.wantPost(http.StatusAccepted)
	waiting.wantGet(http.StatusOK)
	older.wantGet(http.StatusOK)
	i.drained(t)
	if rows, records := i.count(t, `select count(*) from payments`), i.records(t); rows != settings+2 ||
		len(records) != settings+2 {
		t.Errorf("got %d rows and %d records, want %d of each", rows, len(records), settings+2)
	}
}

// awayCase is a key with a body.
type awayCase struct {
	t        *testing.T
	api      string
	apiKey   string
	key      string
	contents []byte
}

func (c awayCase) post() int {
	c.t.Helper()
	status, _, _ := post(c.t, c.api, c.apiKey, c.key, c.contents)
	return status
}

func (c awayCase) wantPost(want int) {
	c.t.Helper()
	if got := c.post(); got != want {
		c.t.Errorf("POST with key %q: got %d, want %d", c.key, got, want)
	}
}

func (c awayCase) wantGet(want int) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet,
		c.api+"/payments?idempotency_key="+url.QueryEscape(c.key), nil)
	if err != nil {
		c.t.Error(err)
		return
	}
	r.Header.Set("Authorization", "Bearer "+c.apiKey)
	response, err := plain.Do(r)
	if err != nil {
		c.t.Error(err)
		return
	}
	_ = response.Body.Close()
	if response.StatusCode != want {
		c.t.Errorf("GET by key %q: got %d, want %d", c.key, response.StatusCode, want)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
