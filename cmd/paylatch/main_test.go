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
	marked := append([]string{"--test-installation"}, development...)
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
		{development, 1, []string{"works only in a test installation"}},
		{marked, 1, []string{"live keys that are no test keys"}}, // That of acme.
		{append([]string{"--no-test-installation"}, marked...), 2, []string{"--no-test-installation: give one of"}},
	} {
		code, stdout, stderr := setup(row.args...)
		for _, want := range row.want {
			if code != row.code || !strings.Contains(stdout+stderr, want) {
				t.Errorf("%d: got code %d and %s%s; want %d and %q", i, code, stdout, stderr, row.code, want)
			}
		}
	}
	code, stdout, stderr := runCommand(t, "tenants", "list", "--database-url", flags[1])
	if code != 0 || strings.Contains(stdout, "beta") || strings.Contains(stdout, "dev") {
		t.Errorf("got %d, %s%s; want 0 and no tenant of a setup that was refused", code, stdout, stderr)
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

// TestKafkaSettings: all faults of the brokers' settings are reported together, with those of other
// settings. No secret is in them, nor in the help.
func TestKafkaSettings(t *testing.T) {
	t.Setenv("PAYLATCH_KAFKA_SASL_PASSWORD", "sesame")
	for name, row := range map[string]struct {
		args []string
		want []string
	}{
		"addresses": {
			[]string{"--kafka-brokers=SASL_SSL://u:sesame@kafka:9093", "--kafka-tls=yes"},
			[]string{"PAYLATCH_KAFKA_SASL_USERNAME and PAYLATCH_KAFKA_SASL_PASSWORD", "neither on nor off"},
		},
		"mechanism": {
			[]string{"--kafka-brokers=kafka:9093", "--kafka-sasl-mechanism=PLAIN", "--batch-max=0"},
			[]string{
				"--kafka-sasl-username (PAYLATCH_KAFKA_SASL_USERNAME): is required",
				"PLAIN sends a secret as it is", "--batch-max",
			},
		},
		"twice": {
			[]string{
				"--kafka-brokers=kafka:9093", "--kafka-sasl-mechanism=SCRAM-SHA-512", "--kafka-sasl-username=u",
				"--kafka-sasl-password-file=main_test.go",
			},
			[]string{"--kafka-sasl-password-file (PAYLATCH_KAFKA_SASL_PASSWORD_FILE): give one of them"},
		},
		"certificate without key": {
			[]string{"--kafka-brokers=kafka:9093", "--kafka-tls=on", "--kafka-tls-cert=cert.pem"},
			[]string{"--kafka-tls-key (PAYLATCH_KAFKA_TLS_KEY): is required with --kafka-tls-cert"},
		},
	} {
		args := append([]string{"sender", "--database-url=postgres://h/d"}, row.args...)
		code, stdout, stderr := runCommand(t, args...)
		for _, want := range row.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: got %s, want %q", name, stderr, want)
			}
		}
		if code != 2 || strings.Contains(stdout+stderr, "sesame") {
			t.Errorf("%s: got %d, %s%s; want 2 and no secret", name, code, stdout, stderr)
		}
	}
	if code, stdout, _ := runCommand(t, "sender", "--help"); code != 0 || strings.Contains(stdout, "sesame") {
		t.Errorf("got %d, %s; want 0 and no secret", code, stdout)
	}
}

// TestServe_LockedOAuthBearer: locked delivery cannot log in by OAUTHBEARER, and says how it can.
func TestServe_LockedOAuthBearer(t *testing.T) {
	for _, row := range []struct {
		delivery string
		refused  bool
	}{{"locked", true}, {"fenced", false}} {
		for _, command := range []string{"serve", "sender"} {
			code, _, stderr := runCommand(t, command, "--database-url=postgres://h/d", "--kafka-brokers=kafka:9093",
				"--kafka-tls=on", "--kafka-sasl-mechanism=OAUTHBEARER", "--kafka-oauth-client-id=paylatch",
				"--kafka-oauth-client-secret=sesame", "--kafka-oauth-token-url=https://issuer.example/token",
				"--delivery="+row.delivery, "--batch-max=0") // A fault in any case: nothing starts.
			refused := strings.Contains(stderr, "OAUTHBEARER works with --delivery fenced only")
			if code != 2 || refused != row.refused {
				t.Errorf("%s, %s: got %d, %s; want 2, and OAUTHBEARER refused: %t",
					command, row.delivery, code, stderr, row.refused)
			}
		}
	}
}
