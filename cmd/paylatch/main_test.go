package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

// runCommand runs a command line in this process.
func runCommand(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// TestSetup: setup prints what it created, and the second time what it found. It refuses a topic
// other than that of the installation, and then leaves everything as it is.
func TestSetup(t *testing.T) {
	t.Parallel()
	topic := parts.Topic()
	flags := []string{"--database-url", parts.EmptyPostgres(t), "--kafka-brokers", parts.Kafka(t)}
	setup := func(args ...string) (int, string, string) {
		return runCommand(t, append(append([]string{"setup"}, flags...), args...)...)
	}
	development := []string{"--topic", topic, "--tenant", "dev", "--development-key"}
	for i, row := range []struct {
		args []string
		code int
		want []string
	}{
		{
			[]string{"--topic", topic, "--partitions", "3", "--tenant", "acme"},
			0,
			[]string{
				"schema version", "topic " + topic + " with 3 partitions, delivery fenced: created",
				"tenant acme key 1, shown this once: pl_",
			},
		},
		{
			[]string{"--topic", topic, "--tenant", "acme"}, // 12 partitions by default: `grow` may have made more.
			0,
			[]string{
				"topic " + topic + " with 3 partitions, delivery fenced: found, nothing was changed",
				"tenant acme: found, nothing was changed",
			},
		},
		{
			[]string{"--topic", "another", "--tenant", "beta"},
			1,
			[]string{"this installation has topic " + topic + ", not another"},
		},
		{development, 0, []string{"tenant dev with the development key: created"}},
		{development, 0, []string{"development key: found, nothing was changed"}},
	} {
		code, stdout, stderr := setup(row.args...)
		for _, want := range row.want {
			if code != row.code || !strings.Contains(stdout+stderr, want) {
				t.Errorf("%d: got code %d and %s%s; want %d and %q", i, code, stdout, stderr, row.code, want)
			}
		}
	}
	code, stdout, stderr := runCommand(t, "tenants", "list", "--database-url", flags[1])
	if code != 0 || strings.Contains(stdout, "beta") {
		t.Errorf("got %d, %s%s; want 0 and no tenant of the setup that was refused", code, stdout, stderr)
	}
}

// TestProbe: probe checks the API's address or a sender's, and readiness or liveness. It has no
// other settings of the API.
func TestProbe(t *testing.T) {
	serve := func(ready int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				w.WriteHeader(ready)
			}
			_, _ = w.Write([]byte("the reason"))
		}))
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	ready, unready := serve(http.StatusOK), serve(http.StatusServiceUnavailable)
	t.Setenv("PAYLATCH_LISTEN", ready)
	t.Setenv("PAYLATCH_ADMIN_LISTEN", unready)
	t.Setenv("PAYLATCH_TENANT_RATE", "no rate") // Not a setting of probe.
	for _, row := range []struct {
		args []string
		code int
	}{
		{nil, 0},
		{[]string{"api"}, 0},
		{[]string{"sender"}, 1},
		{[]string{"sender", "--live"}, 0},
		{[]string{"--listen", unready}, 1},
		{[]string{"--listen", unready, "--live"}, 0},
		{[]string{"--listen", strings.Replace(ready, "127.0.0.1", "0.0.0.0", 1)}, 0},
		{[]string{"--tenant-rate", "5"}, 2},
	} {
		code, _, stderr := runCommand(t, append([]string{"probe"}, row.args...)...)
		if code != row.code || code == 1 && !strings.Contains(stderr, "the reason") {
			t.Errorf("%q: got %d and %s, want %d", row.args, code, stderr, row.code)
		}
	}
}

// TestReservedPassword: no command shows a password that the URL does not hold in the right form.
func TestReservedPassword(t *testing.T) {
	for _, command := range []string{"serve", "api", "sender", "setup", "storage", "verify"} {
		const url = "postgres://paylatch:12/sesame@127.0.0.1:1/paylatch"
		code, stdout, stderr := runCommand(t, command, "--database-url", url)
		advised := strings.Contains(stderr, "percent-encode the password")
		if code != 2 || !advised || strings.Contains(stdout+stderr, "sesame") {
			t.Errorf("%s: got %d, %s%s; want 2 and what to do, without the password", command, code, stdout, stderr)
		}
	}
}
