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

// TestDrain signals a process. It is then not ready, still takes and sends payments, and ends each
// connection with its response. A second signal ends the drain.
func TestDrain(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.launch(t, "serve", map[string]string{"PAYLATCH_DRAIN_DELAY": "10m"})
	body := []byte(order())
	// kept has its connection before the signal.
	kept := &http.Client{Transport: &http.Transport{}}
	if status, ends := createBy(t, kept, p.api, i.key, body, ""); status != http.StatusAccepted || ends {
		t.Fatalf("before the signal: got %d, the connection ends: %v, want 202, false", status, ends)
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
			t.Errorf("in the drain: got %d, the connection ends: %v, want 202, true", status, ends)
		}
	}
	if status, _ := createBy(t, kept, p.api, i.key, body, "wait=30"); status != http.StatusOK {
		t.Errorf("in the drain, waiting: got %d, want 200", status)
	}
	if live := get(t, p.api+"/livez"); live != `{"status":"live"}`+"\n" {
		t.Errorf("livez: got %s, want live", live)
	}
	if metrics := get(t, p.admin+"/metrics"); !strings.Contains(metrics, "\npaylatch_ready 0\n") {
		t.Error("want paylatch_ready 0 in the metrics")
	}
	end(t, p) // The second signal.
	wantStopLog(t, p, "draining stopping stopped")
}

// TestDrain_Over lets the drain delay pass: the process then stops by itself. A process without an
// API stops at once.
func TestDrain_Over(t *testing.T) {
	t.Parallel()
	i := install(t)
	for _, row := range []struct{ command, delay, log string }{
		{"serve", "100ms", "draining stopping stopped"},
		{"api", "0s", "stopping stopped"},
		{"sender", "10m", "stopping stopped"},
	} {
		p := i.launch(t, row.command, map[string]string{"PAYLATCH_DRAIN_DELAY": row.delay})
		end(t, p)
		wantStopLog(t, p, row.log)
	}
}

// wantStopLog checks the events that a process has logged when it stopped.
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
		t.Errorf("got the events %q in the log, want %q", got, want)
	}
}

// createBy creates a payment. It returns the status, and reports whether the connection ends with
// the response.
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
