package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestDrain: a process that is told to stop is not ready, takes and sends payments, and ends each
// connection with its response. A second signal ends the drain.
func TestDrain(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.launch(t, "serve", map[string]string{"PAYLATCH_DRAIN_DELAY": "10m"})
	body := []byte(order())
	kept := &http.Client{Transport: &http.Transport{}} // Its connection is there before the signal.
	if status, ends := createBy(t, kept, p.api, i.key, body, ""); status != http.StatusAccepted || ends {
		t.Fatalf("before the signal: %d, the connection ends: %v; want 202, false", status, ends)
	}
	p.signal(t)
	eventually(t, "the process is not ready", func() error {
		status, response := readyz(t, p)
		if status != http.StatusServiceUnavailable || !strings.Contains(response, `"reason":"draining"`) {
			return fmt.Errorf("%d: %s", status, response)
		}
		return nil
	})
	for range 2 { // Over the kept connection, and over a new one.
		if status, ends := createBy(t, kept, p.api, i.key, body, ""); status != http.StatusAccepted || !ends {
			t.Errorf("in the drain: %d, the connection ends: %v; want 202, true", status, ends)
		}
	}
	if status, _ := createBy(t, kept, p.api, i.key, body, "wait=30"); status != http.StatusOK {
		t.Errorf("in the drain, waiting: %d, want 200: its sender goes on", status)
	}
	if live := get(t, p.api+"/livez"); live != `{"status":"live"}` {
		t.Errorf("livez says %s", live)
	}
	if metrics := get(t, p.admin+"/metrics"); !strings.Contains(metrics, "\npaylatch_ready 0\n") {
		t.Error("the metric does not say that the process is not ready")
	}
	end(t, p) // The second signal.
	wantStopLog(t, p, "draining stopping stopped")
}

// TestDrain_Over: a process stops by itself once the delay is over, and one without an API at once.
func TestDrain_Over(t *testing.T) {
	t.Parallel()
	i := install(t)
	for _, row := range []struct{ command, delay, log string }{
		{"serve", "100ms", "draining stopping stopped"}, {"api", "0s", "stopping stopped"},
		{"sender", "10m", "stopping stopped"},
	} {
		p := i.launch(t, row.command, map[string]string{"PAYLATCH_DRAIN_DELAY": row.delay})
		end(t, p)
		wantStopLog(t, p, row.log)
	}
}

// wantStopLog checks what a process has logged about its end.
func wantStopLog(t *testing.T, p *process, want string) {
	t.Helper()
	var events []string
	for line := range strings.Lines(p.stderr.String()) {
		var log struct{ Msg string }
		err := json.Unmarshal([]byte(line), &log)
		if err == nil && slices.Contains([]string{"draining", "stopping", "stopped"}, log.Msg) {
			events = append(events, log.Msg)
		}
	}
	if got := strings.Join(events, " "); got != want {
		t.Errorf("the log says %q, want %q", got, want)
	}
}

// createBy makes a payment, and returns the status and whether the connection ends with the
// response.
func createBy(t *testing.T, c *http.Client, api, key string, body []byte, prefer string) (status int, ends bool) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api+"/payments", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{
		"Authorization": {bearer(key)}, "Content-Type": {"application/json"}, "Idempotency-Key": {newKey()},
		"Prefer": {prefer},
	}
	request.GetBody = nil
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Close
}
