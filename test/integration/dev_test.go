package integration

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// devPorts lets the demo take any free ports.
var devPorts = []string{"--listen", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0"}

// TestDev_Simulate runs the demo with twelve payments, which reach the topic and are printed. The
// key of each record and its ce_id are the id of the payment. Ctrl-C ends the demo with code 0.
func TestDev_Simulate(t *testing.T) {
	t.Parallel()
	p := launchDemo(t, append([]string{"--ephemeral", "--simulate", "12"}, devPorts...)...)
	eventually(t, "the table", func() error {
		if !strings.Contains(p.stdout.String(), "12 of 12 payments sent") {
			return errNotYet
		}
		return nil
	})
	records := readTopic(t, word(t, p.ready, "kafka="), "payments")
	if len(records) != 12 {
		t.Errorf("got %d records, want 12", len(records))
	}
	for _, r := range records {
		var value struct{ ID string }
		if err := json.Unmarshal(r.Value, &value); err != nil || value.ID != string(r.Key) {
			t.Errorf("record %s: got value %s and error %v, want its key as id", r.Key, r.Value, err)
		}
		ceID := ""
		for _, h := range r.Headers {
			if h.Key == "ce_id" {
				ceID = string(h.Value)
			}
		}
		if ceID != string(r.Key) || !strings.Contains(p.stdout.String(), ceID) {
			t.Errorf("record %s: got ce_id %q, want its key, and a line in the table", r.Key, ceID)
		}
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("after Ctrl-C: got exit code %d, want 0\n%s", code, p.stderr.String())
	}
}

// TestDev_KeptAcrossCrashes kills the demo with -9 three times, with payments in between. The data
// directory keeps all of them, and every payment is in the topic.
func TestDev_KeptAcrossCrashes(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	t.Cleanup(func() { removePostgres(t, data) })
	args := append([]string{"--data", data}, devPorts...)
	ids := map[string]bool{}
	for range 3 {
		p := launchDemo(t, args...)
		c := newClient(t, word(t, p.ready, "key="), word(t, p.ready, "api="))
		for id := range ids {
			if found, err := c.Wait(t.Context(), id, 10*time.Second); err != nil || !found.Sent() {
				t.Errorf("payment %s of an earlier run: got status %s and error %v, want sent", id, found.Status, err)
			}
		}
		for range 20 {
			ids[create(t, c).ID] = true
		}
		p.kill()
	}
	p := launchDemo(t, args...)
	c := newClient(t, word(t, p.ready, "key="), word(t, p.ready, "api="))
	for id := range ids {
		if found, err := c.Wait(t.Context(), id, 10*time.Second); err != nil || !found.Sent() {
			t.Errorf("payment %s: got status %s and error %v, want sent", id, found.Status, err)
		}
	}
	seen := map[string]bool{}
	for _, r := range readTopic(t, word(t, p.ready, "kafka="), "payments") {
		seen[string(r.Key)] = true
	}
	for id := range ids {
		if !seen[id] {
			t.Errorf("payment %s: got no record in the topic, want one", id)
		}
	}
	// The stop ends PostgreSQL, too. After a kill it could still write while the directory is
	// removed.
	if err := p.stop(t); err != nil {
		t.Error(err)
	}
}

// TestDev_PortInUse gives the demo a port that another program uses. The error names the port and
// the flag to change.
func TestDev_PortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, flag := range []string{"--listen", "--kafka-listen", "--admin-listen"} {
		args := append([]string{"run", "--ephemeral"}, devPorts...)
		out, err := commandOf(t, "paylatch-dev", nil, append(args, flag, l.Addr().String())...).CombinedOutput()
		if _, failed := errors.AsType[*exec.ExitError](err); !failed ||
			!strings.Contains(string(out), l.Addr().String()) || !strings.Contains(string(out), flag) {
			t.Errorf("%s: %v\n%s", flag, err, out)
		}
	}
}

// TestDev_Env runs an operator's command against the demo with the output of `env`. A second demo
// on the same directory reports that the first one runs. `env` fails while no demo runs.
func TestDev_Env(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	t.Cleanup(func() { removePostgres(t, data) })
	env := func() (string, error) {
		out, err := commandOf(t, "paylatch-dev", nil, "env", "--data", data).CombinedOutput()
		return string(out), err
	}
	if out, err := env(); err == nil || !strings.Contains(out, "no demo is running") {
		t.Errorf("before the start: got %v and %q, want an error", err, out)
	}
	p := launchDemo(t, append([]string{"--data", data}, devPorts...)...)
	exports, err := env()
	if err != nil {
		t.Fatalf("%v: %s", err, exports)
	}
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	shell := commandOf(t, "paylatch-dev", nil)
	shell.Path, shell.Args = "/bin/sh", []string{
		"sh", "-ec",
		exports + dir + "/paylatch verify; echo $PAYLATCH_SERVER $PAYLATCH_API_KEY",
	}
	out, err := shell.CombinedOutput()
	want := word(t, p.ready, "api=") + " " + word(t, p.ready, "key=")
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("got %v and %q, want an audit and %q", err, out, want)
	}
	second, err := commandOf(t, "paylatch-dev", nil, append([]string{"run", "--data", data},
		devPorts...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(second), "is running already on "+data) ||
		!strings.Contains(string(second), word(t, p.ready, "api=")) {
		t.Errorf("got %v and %q, want an error that names the demo that runs", err, second)
	}
	if err := p.stop(t); err != nil {
		t.Error(err)
	}
	if out, err := env(); err == nil || !strings.Contains(out, "no demo is running") {
		t.Errorf("after the end: got %v and %q, want an error", err, out)
	}
}

// TestConfig_AllFaultsAtOnce reports all faults of a configuration together, by flag and by
// variable, with exit code 2.
func TestConfig_AllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"PAYLATCH_DATABASE_URL": "postgres://u:sesame@[broken", "PAYLATCH_KAFKA_BROKERS": "nowhere",
		"PAYLATCH_LISTEN":   "8080",
		"PAYLATCH_DELIVERY": "best effort", "PAYLATCH_SHUTDOWN_TIMEOUT": "soon",
		"PAYLATCH_DATABASE_CONNECTIONS": "none", "PAYLATCH_LOG_LEVEL": "loud",
		"PAYLATCH_DRAIN_DELAY": "11m", "PAYLATCH_SOURCE": "%", "PAYLATCH_BATCH_MAX": "0", "PAYLATCH_ADMIN_LISTEN": ":x",
	}
	cmd := command(t, env, "serve")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("got exit code %d, want 2", code)
	}
	for name := range env {
		if !strings.Contains(string(out), name) {
			t.Errorf("want %s in the output, got\n%s", name, out)
		}
	}
	if strings.Contains(string(out), "sesame") {
		t.Errorf("got the password in the output, want it redacted:\n%s", out)
	}
}

// TestServe_Observed checks that the metrics count what was taken and sent, and that the logged
// configuration has no password.
func TestServe_Observed(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.launch(t, "serve")
	c := newClient(t, i.key, p.api)
	create(t, c)
	if _, err := c.Create(t.Context(), "twice", sample("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), "twice", sample("1")); err != nil {
		t.Fatal(err)
	}
	post(t, p.api, i.key, "k", []byte(`{}`))
	i.drained(t)
	want := []string{
		`paylatch_creates_total{kind="original"} 2`, `paylatch_creates_total{kind="replay"} 1`,
		`paylatch_refusals_total{code="invalid_payment"} 1`,
		`paylatch_http_request_seconds_count{method="POST",route="/payments",status="202"} 3`,
		`paylatch_payments_sent_total 2`,
		`paylatch_payments_oldest_unsent_seconds 0`, `paylatch_payments_unsent{partition="11"} 0`,
		`paylatch_partitions{state="active"} 12`,
		`paylatch_partitions{state="halted"} 0`, `paylatch_sender_passes_total{outcome="sent"}`,
		`paylatch_sender_publish_seconds_count{outcome="acknowledged"}`,
		`paylatch_sender_partitions_owned 12`, `paylatch_database_up 1`, `paylatch_ready 1`,
	}
	// The counters are incremented just after the rows are committed.
	eventually(t, "metrics", func() error {
		metrics := get(t, p.admin+"/metrics")
		for _, line := range want {
			if !strings.Contains(metrics, line) {
				t.Logf("not yet: %s", line)
				return errNotYet
			}
		}
		return nil
	})
	if !strings.Contains(get(t, p.admin+"/debug/pprof/goroutine?debug=1"), "goroutine profile") {
		t.Error("got no goroutine profile, want one")
	}
	if !strings.Contains(p.stderr.String(), `"database_url":"postgres://login_serve:***@`) {
		t.Errorf("want the configuration with a redacted password in the log, got\n%s", p.stderr.String())
	}
}

// TestServe_StopsCleanly shows that SIGTERM ends a waiting request at once with the current status,
// and the process with code 0.
func TestServe_StopsCleanly(t *testing.T) {
	t.Parallel()
	i := install(t)
	// No sender runs, so the payment stays created, and the request waits.
	p := i.launch(t, "api")
	id := create(t, newClient(t, i.key, p.api)).ID
	held := make(chan int, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.api+"/payments/"+id, nil)
		if err != nil {
			t.Error(err)
		}
		r.Header.Set("Authorization", "Bearer "+i.key)
		r.Header.Set("Prefer", "wait=30")
		response, err := plain.Do(r)
		if err != nil {
			t.Error(err)
			held <- 0
			return
		}
		held <- response.StatusCode
		_ = response.Body.Close()
	}()
	eventually(t, "the request waits", func() error {
		if !strings.Contains(get(t, p.admin+"/debug/pprof/goroutine?debug=2"), "(*Server).awaitChange") {
			return errNotYet
		}
		return nil
	})
	if err := p.stop(t); err != nil {
		t.Error(err)
	}
	if status := <-held; status != http.StatusOK {
		t.Errorf("the waiting request: got status %d, want 200", status)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := plain.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: got %s and error %v, want 200\n%s", url, response.Status, err, body)
	}
	return string(body)
}

// word returns what follows name= in the line that the demo prints.
func word(t *testing.T, line, name string) string {
	t.Helper()
	for _, w := range strings.Fields(line) {
		if value, ok := strings.CutPrefix(w, name); ok {
			return value
		}
	}
	t.Fatalf("got %q, want %s in it", line, name)
	return ""
}

func lastWord(s string) string {
	words := strings.Fields(s)
	return words[len(words)-1]
}

// removePostgres removes the data that the demo keeps elsewhere when it runs as root. The directory
// has a link to it.
func removePostgres(t *testing.T, data string) {
	t.Helper()
	target, err := os.Readlink(filepath.Join(data, "postgres"))
	if err != nil {
		return // Not root: the directory has the data.
	}
	if err := os.RemoveAll(filepath.Dir(target)); err != nil {
		t.Error(err)
	}
}

// TestServe_DatabaseAway starts `serve` before its database. The process is live and not ready. A
// create gets 503, which the client retries. An orchestrator that checks liveness has no reason to
// restart it again and again.
func TestServe_DatabaseAway(t *testing.T) {
	t.Parallel()
	p := launch(t, map[string]string{
		"PAYLATCH_DATABASE_URL":  "postgres://paylatch:paylatch@127.0.0.1:1/paylatch?sslmode=disable",
		"PAYLATCH_KAFKA_BROKERS": "127.0.0.1:1",
		"PAYLATCH_LISTEN":        "127.0.0.1:0", "PAYLATCH_ADMIN_LISTEN": "127.0.0.1:0",
	}, "serve")
	if body := get(t, p.api+"/livez"); !strings.Contains(body, "live") {
		t.Errorf("livez: got %s, want live", body)
	}
	if metrics := get(t, p.admin+"/metrics"); !strings.Contains(metrics, "paylatch_database_up 0") {
		t.Error("want paylatch_database_up 0 in the metrics")
	}
	response, err := plain.Get(p.api + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("readyz: got %s, want 503 with Retry-After", response.Status)
	}
	status, _, content := post(t, p.api, "pl_dev_DevelopmentOnlyGuardsNothing00001xSUng", "k", []byte(`{}`))
	if status != http.StatusServiceUnavailable || !strings.Contains(content, `"code":"unavailable"`) {
		t.Errorf("create: got %d and %s, want 503 and unavailable", status, content)
	}
	if err := p.stop(t); err != nil {
		t.Error(err)
	}
}
