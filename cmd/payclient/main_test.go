package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
	"github.com/paylatch/paylatch/internal/buildinfo"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/loadtest"
	"github.com/paylatch/paylatch/internal/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const body = `{"amount":25687,"currency":"USD",
	"originator":{"id":"567","name":"Y & Z"},"beneficiary":{"id":"123","name":"X"},
	"sender":{"type":"checking","number":"765543322"},"receiver":{"type":"iban","number":"DE89370400440532013000"}}`

// outcome is the result of a run of the program.
type outcome struct {
	code           int
	stdout, stderr string
}

// payclientRun runs the program with an environment that names the server.
func payclientRun(t *testing.T, server, stdin string, args ...string) outcome {
	t.Helper()
	env := map[string]string{"PAYLATCH_SERVER": server, "PAYLATCH_API_KEY": "pl_test_1"}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, func(k string) string { return env[k] }, strings.NewReader(stdin), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// expect also checks that all output ends with a newline.
func (o outcome) expect(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	for _, text := range []string{o.stdout, o.stderr} {
		if text != "" && !strings.HasSuffix(text, "\n") {
			t.Errorf("got output without a newline at its end:\n%s", text)
		}
	}
	if o.code != code || !strings.Contains(o.stdout, stdout) || !strings.Contains(o.stderr, stderr) {
		t.Errorf("got exit code %d, want %d\n--- stdout, want %q\n%s--- stderr, want %q\n%s",
			o.code, code, stdout, o.stdout, stderr, o.stderr)
	}
}

func TestRun_Simulate(t *testing.T) {
	service := clienttest.New()
	o := payclientRun(t, service.Serve(t).URL, "", "simulate", "-n", "3")
	o.expect(t, exitOK, "3 of 3 payments sent", "")
	if service.Payments() != 3 || o.stderr != "" {
		t.Errorf("%d payments, stderr %q", service.Payments(), o.stderr)
	}
}

// TestRun_Version: the command and the flag need no server and no API key, and print the same.
func TestRun_Version(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		o := payclientRun(t, "", "", arg)
		if want := buildinfo.Read().String() + "\n"; o != (outcome{exitOK, want, ""}) {
			t.Errorf("payclient %s: got %+v, want %q", arg, o, want)
		}
	}
}

// TestRun_CreateAndGet: the flags, a file and standard input make the same payment. It is found by
// id and by key.
func TestRun_CreateAndGet(t *testing.T) {
	service := clienttest.New()
	server := service.Serve(t).URL
	file := filepath.Join(t.TempDir(), "payment.json")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{
		"--amount=25687", "--currency=USD", "--originator-id=567", "--originator-name=Y & Z", "--beneficiary-id=123",
		"--beneficiary-name=X", "--sender-type=checking", "--sender-number=765543322",
		"--receiver-type=iban", "--receiver-number=DE89370400440532013000",
	}
	payclientRun(t, server, "", append([]string{"create", "--idempotency-key=K"}, flags...)...).
		expect(t, exitOK, `"name": "Y & Z"`, "")
	payclientRun(t, server, "", "create", "--idempotency-key=K", "--json", file).
		expect(t, exitOK, `"amount": 25687`, "nothing new was made")
	payclientRun(t, server, body, "create", "--idempotency-key=K", "--json", "-").
		expect(t, exitOK, `"status": "created"`, "nothing new was made")
	if service.Payments() != 1 {
		t.Errorf("%d payments", service.Payments())
	}

	o := payclientRun(t, server, "", "get", "--idempotency-key", "K")
	o.expect(t, exitOK, `"status": "created"`, "")
	var p client.Payment
	if err := json.Unmarshal([]byte(o.stdout), &p); err != nil {
		t.Fatal(err)
	}
	payclientRun(t, server, "", "get", p.ID, "--wait=5s").expect(t, exitOK, `"partition": 0`, "")
	payclientRun(t, server, "", "get", "--idempotency-key=K", "--wait=5s").expect(t, exitOK, `"status": "sent"`, "")
	payclientRun(t, server, "", "get", "nobody").expect(t, exitFailed, "", "404 not_found")
}

// TestRun_Create_NewKey: a new key is printed before anything is sent.
func TestRun_Create_NewKey(t *testing.T) {
	service := clienttest.New()
	server := service.Serve(t).URL
	o := payclientRun(t, server, body, "create", "--json=-")
	o.expect(t, exitOK, `"id"`, "payclient: idempotency key "+service.Requests()[0].Key+"\n")
	o = payclientRun(t, "http://127.0.0.1:1", body, "--retry-for=50ms", "create", "--json=-")
	o.expect(t, exitFailed, "", "nothing was sent")
	if !strings.HasPrefix(o.stderr, "payclient: idempotency key 0") {
		t.Errorf("stderr %q", o.stderr)
	}
}

func TestRun_Create_ExitCodes(t *testing.T) {
	refusal := clienttest.Respond(422, "application/problem+json",
		`{"code":"invalid_payment","errors":[{"pointer":"/currency","code":"unknown_currency"}]}`)
	bug := clienttest.Respond(500, "application/problem+json", `{"code":"internal","detail":"sorry"}`)
	server := clienttest.New().Serve(t, refusal, bug).URL
	payclientRun(t, server, body, "create", "--json=-").expect(t, exitFailed, "", "/currency: unknown_currency")
	payclientRun(t, server, body, "create", "--json=-", "--idempotency-key=K1").
		expect(t, exitUnknown, "", "payclient get --idempotency-key=K1")
}

func TestRun_Get_NotSentInTime(t *testing.T) {
	service := clienttest.New()
	service.NeverSend = true
	server := service.Serve(t).URL
	payclientRun(t, server, body, "create", "--json=-", "--idempotency-key=K").expect(t, exitOK, "", "")
	payclientRun(t, server, "", "get", "--idempotency-key=K", "--wait=10ms").
		expect(t, exitFailed, `"status": "created"`, "not sent within 10ms")
}

func TestRun_Create_Wait(t *testing.T) {
	service := clienttest.New()
	payclientRun(t, service.Serve(t).URL, body, "create", "--json=-", "--wait=10s").
		expect(t, exitOK, `"status": "sent"`, "")
	if prefer := service.Requests()[0].Prefer; prefer != "wait=10" {
		t.Errorf("Prefer %q, want wait=10", prefer)
	}
	service = clienttest.New()
	service.NeverSend = true
	payclientRun(t, service.Serve(t).URL, body, "create", "--json=-", "--wait=10ms").
		expect(t, exitFailed, `"status": "created"`, "not sent within 10ms")
}

func TestRun_Load(t *testing.T) {
	service := clienttest.New()
	server := service.Serve(t).URL
	payclientRun(t, server, "", "load", "--workers=2", "--count=10", "--reads=3").
		expect(t, exitOK, "responses to status: 200 × 30", "")
	o := payclientRun(t, server, "", "load", "--workers=2", "--count=10", "--reads=1", "--json")
	var r loadtest.Report
	err := json.Unmarshal([]byte(o.stdout), &r)
	if err != nil || o.code != exitOK || r.Create.Done != 10 || r.Status.Done != 10 {
		t.Errorf("exit code %d, %v, %+v", o.code, err, r)
	}
	if service.Payments() != 20 {
		t.Errorf("%d payments", service.Payments())
	}
}

// TestRun_Load_Fails: a load that fails prints what it has measured.
func TestRun_Load_Fails(t *testing.T) {
	bug := clienttest.Respond(500, "text/plain", "bug")
	refusal := clienttest.Respond(401, "application/problem+json", `{"code":"unauthorized"}`)
	server := clienttest.New().Serve(t, bug, refusal).URL
	payclientRun(t, server, "", "load", "--workers=1", "--count=1").
		expect(t, exitUnknown, "unknown: idempotency key", "the outcome of some payments is unknown")
	payclientRun(t, server, "", "load", "--workers=1", "--count=1").
		expect(t, exitFailed, "responses to create: 401 × 1", "401 unauthorized")
}

// TestRun_Load_Open: an open load of two tenants, with a page of plots and objectives that are met.
// The report names what was run, and shows no API key.
func TestRun_Load_Open(t *testing.T) {
	service := clienttest.New()
	page := filepath.Join(t.TempDir(), "report.html")
	server := service.Serve(t).URL
	o := payclientRun(t, server, "", "--key", "secret-a", "--key=secret-b", "load", "--rate=200/s", "--count=20",
		"--reads=2", "--slo=create.max=1h", "--slo=status.p50=1h", "--html", page)
	html, err := os.ReadFile(page)
	if err != nil || !bytes.HasSuffix(html, []byte("</html>\n")) || service.Payments() != 20 {
		t.Errorf("got %v, %d bytes, %d payments", err, len(html), service.Payments())
	}
	command := "payclient --key … --key=… load --rate=200/s --count=20"
	for _, want := range []string{
		"SLO met: create.max is ", "2 tenants", "server: " + server + "\n", "command: " + command,
		"version: " + buildinfo.Read().Version, "audit: not made\n",
	} {
		o.expect(t, exitOK, want, "")
	}
	for _, want := range []string{server, command, buildinfo.Read().Version, "not made"} {
		if !bytes.Contains(html, []byte(want)) {
			t.Errorf("%q is not in the page", want)
		}
	}
	if strings.Contains(o.stdout+string(html), "secret") {
		t.Error("the report shows an API key")
	}
	auths := map[string]int{}
	for _, s := range service.Requests() {
		auths[s.Authorization]++
	}
	if len(auths) != 2 || auths["Bearer secret-a"] == 0 || auths["Bearer secret-b"] == 0 {
		t.Errorf("API keys %v", auths)
	}
}

// TestRun_Load_Objectives: a missed objective has an exit code of its own. That of something worse
// has precedence, and both are printed.
func TestRun_Load_Objectives(t *testing.T) {
	load := []string{"load", "--rate=500", "--count=5", "--reads=0", "--no-retry", "--slo=create.p50=1ns"}
	const missed = "SLO missed: create.p50 is "
	with := func(faults ...clienttest.Fault) outcome {
		return payclientRun(t, clienttest.New().Serve(t, faults...).URL, "", load...)
	}
	with().expect(t, exitMissed, missed, missed)
	tooMany := with(clienttest.Respond(429, "text/plain", ""))
	tooMany.expect(t, exitFailed, "", missed)
	tooMany.expect(t, exitFailed, "", "1 creates failed")
	with(clienttest.LoseResponse).expect(t, exitUnknown, "", missed)
	load = []string{"load", "--count=1", "--reads=0", "--slo=status.p99=1h"}
	with().expect(t, exitMissed, "status.p99 is not measured", "")
}

// TestRun_Audit: a load with a journal and a topic, and its audit. Then an audit that must fail.
func TestRun_Audit(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "payments"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	kafka, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	produce := func(n int) {
		record := &kgo.Record{Topic: "payments", Key: []byte(clienttest.PaymentID(n))}
		if err := kafka.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Error(err)
		}
	}
	service := clienttest.New()
	service.OnCreate = func(payments int) { produce(payments - 1) }
	service.PositionOf = func(n int) (int32, int64) { return 0, int64(n) }
	server, path := service.Serve(t).URL, filepath.Join(t.TempDir(), "journal")
	brokers := "--kafka-brokers=" + cluster.ListenAddrs()[0]
	load := []string{
		"load", "--workers=1", "--count=5", "--reads=0", "--journal", path, brokers, "--slo=end_to_end.max=1h",
		"--settle=1m", "--audit",
	}
	o := payclientRun(t, server, "", load...)
	o.expect(t, exitOK, "SLO met: end_to_end.max", "")
	o.expect(t, exitOK, "audit: passed, 5 of 5 payments confirmed\n", "")
	payclientRun(t, server, "", "audit", "--journal", path, brokers).expect(t, exitOK, "confirmed 5 payments", "")
	produce(2)
	payclientRun(t, server, "", "audit", "--journal", path, brokers).
		expect(t, exitFailed, "is in the topic 2 times: at payments/0:2, payments/0:5", "duplicates 1")
	service.PositionOf = func(n int) (int32, int64) { return 0, int64(n + n/5) } // The record from above is between.
	page := filepath.Join(t.TempDir(), "page")
	payclientRun(t, server, "", append(load, "--html", page)...).
		expect(t, exitFailed, "audit: journal, service and topic contradict each other: duplicates 1", "duplicates 1")
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte("each other: duplicates 1")) {
		t.Errorf("got %v; the audit is not in the page", err)
	}
	o = payclientRun(t, server, "", "audit", "--json", "--journal", path, brokers)
	var r journal.Report
	err = json.Unmarshal([]byte(o.stdout), &r)
	if err != nil || o.code != exitFailed || r.Duplicates.Count != 1 || r.Keys != 10 {
		t.Errorf("exit code %d, %v, %+v", o.code, err, r)
	}
}

func TestRun_Interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	service := clienttest.New()
	service.OnCreate = func(int) { cancel() }
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"--key=k", "--server", service.Serve(t).URL, "load", "--duration=1h", "--workers=1"},
		func(string) string { return "" }, nil, &stdout, &stderr)
	if code != exitOK || !strings.Contains(stdout.String(), "interrupted") || service.Payments() != 1 {
		t.Errorf("exit code %d, %d payments\n%s%s", code, service.Payments(), stdout.String(), stderr.String())
	}
}

// TestRun_Servers: several servers are named by repetition, by comma, or in the environment. A flag
// has precedence.
func TestRun_Servers(t *testing.T) {
	service := clienttest.New()
	a, b := service.Serve(t).URL, service.Serve(t).URL
	for name, tc := range map[string]struct {
		env  string
		args []string
	}{
		"Environment": {a + "," + b, nil},
		"Comma":       {"http://127.0.0.1:1", []string{"--server=" + a + "," + b}},
		"Repeated":    {"", []string{"--server=" + a, "--server=" + b}},
	} {
		before := len(service.Requests())
		payclientRun(t, tc.env, "", append(tc.args, "load", "--count=2", "--reads=0", "--workers=1")...).
			expect(t, exitOK, "", "")
		seen := service.Requests()[before:]
		if len(seen) != 2 || seen[0].Server != 0 || seen[1].Server != 1 {
			t.Errorf("%s: %+v", name, seen)
		}
	}
}

func TestRun_Usage(t *testing.T) {
	service := clienttest.New()
	server := service.Serve(t).URL
	for _, tc := range []struct {
		says string
		args []string
	}{
		{"expected one of", nil},
		{"--amout", []string{"create", "--amout=1"}},
		{"missing --currency, --originator-id", []string{"create", "--amount=1"}},
		{"--amount is not allowed", []string{"create", "--json=-", "--amount=1"}},
		{"unknown field", []string{"create", "--json=-"}},
		{"--wait must be from 0s to 30s", []string{"create", "--json=-", "--wait=31s"}},
		{"no such file", []string{"create", "--json", filepath.Join(t.TempDir(), "none")}},
		{"either an id or", []string{"get"}},
		{"either an id or", []string{"get", "x", "--idempotency-key=y"}},
		{"--wait", []string{"get", "x", "--wait=-1s"}},
		{"-n must be from", []string{"simulate", "-n0"}},
		{"--workers must be from", []string{"load", "--workers=0"}},
		{"must not be negative", []string{"load", "--count=-1"}},
		{"either --rate, an open load, or --workers", []string{"load", "--rate=1", "--workers=1"}},
		{"--in-flight must be from", []string{"load", "--rate=1", "--in-flight=5000"}},
		{"belong to --rate", []string{"load", "--step=1s"}},
		{"--rate \"x\"", []string{"load", "--rate=x"}},
		{"several rates need --step", []string{"load", "--rate=1,2"}},
		{"--duration is not allowed", []string{"load", "--rate=1,2", "--step=1s", "--duration=1s"}},
		{"--accounts must be from", []string{"load", "--accounts=1"}},
		{"--slo \"p98=1ms\"", []string{"load", "--slo=p99=1s,p98=1ms"}},
		{"needs --kafka-brokers", []string{"load", "--slo=end_to_end.p99=1s"}},
		{"no such file", []string{"load", "--journal", filepath.Join(t.TempDir(), "none", "journal")}},
		{"--html: open ", []string{"load", "--html", filepath.Join(t.TempDir(), "none", "page")}},
		{"is a directory", []string{"load", "--html", t.TempDir()}},
		{"--audit needs --journal", []string{"load", "--audit"}},
		{"--audit needs --kafka-brokers", []string{"load", "--audit", "--journal=j"}},
		{"missing flags: --journal", []string{"audit"}},
		{"--kafka-brokers is needed", []string{"audit", "--journal=j"}},
		{"no such file", []string{"audit", "--kafka-brokers=b:1", "--journal=" + filepath.Join(t.TempDir(), "x")}},
		{"--wait must not be negative", []string{"audit", "--journal=j", "--wait=-1s"}},
		{"2 API keys are given to a command for one tenant", []string{"--key=a,b", "simulate"}},
		{"an API key is given twice", []string{"--key=a", "--key=a", "load"}},
		{"visible ASCII", []string{"--key=a,b c", "load"}},
		{"must be above 0", []string{"--retry-for=0s", "simulate"}},
		{"server \"ftp://x\"", []string{"--server=ftp://x", "simulate"}},
	} {
		payclientRun(t, server, `{"amuont":1}`, tc.args...).expect(t, exitUsage, "", tc.says)
	}
	for _, stdin := range []string{"", "[]", body + "x", `{"amount":12.50}`, strings.Repeat(" ", bodyBytesMax+1)} {
		payclientRun(t, server, stdin, "create", "--json=-").expect(t, exitUsage, "", "read the payment")
	}
	if n := len(service.Requests()); n != 0 {
		t.Errorf("got %d requests in spite of wrong usage", n)
	}
	var stderr bytes.Buffer
	none := func(string) string { return "" }
	code := run(t.Context(), []string{"simulate"}, none, nil, &stderr, &stderr)
	if code != exitUsage || !strings.Contains(stderr.String(), "API key is needed") {
		t.Errorf("without a key: exit code %d, %s", code, stderr.String())
	}
}

func TestRun_Help(t *testing.T) {
	for _, args := range [][]string{
		{"--help"},
		{"simulate", "--help"},
		{"create", "--help"},
		{"get", "--help"},
		{"load", "--help"},
		{"audit", "--help"},
	} {
		o := payclientRun(t, "", "", args...)
		o.expect(t, exitOK, "Usage: payclient", "")
		if o.stderr != "" || strings.Contains(o.stdout, "${") || strings.Count(o.stdout, "Usage: payclient") != 1 {
			t.Errorf("%v: help is not printed once:\n%s%s", args, o.stdout, o.stderr)
		}
	}
	payclientRun(t, "", "", "--help").expect(t, exitOK, "payclient get --idempotency-key K", "")
}

// TestRun_Create_Unknown: the command that is printed can be pasted, whatever the key is.
func TestRun_Create_Unknown(t *testing.T) {
	server := clienttest.New().Serve(t, clienttest.Respond(500, "text/plain", "bug")).URL
	payclientRun(t, server, body, "create", "--json=-", "--idempotency-key=$(rm)'k").
		expect(t, exitUnknown, "", `look it up: payclient get --idempotency-key='$(rm)'\''k'`+"\n")
}

// TestRun_Retries: a server that is down is not met by silence. Many retries are not as many lines.
func TestRun_Retries(t *testing.T) {
	server := "http://127.0.0.1:1"
	o := payclientRun(t, server, body, "--retry-for=1s", "create", "--json=-", "--idempotency-key=K")
	o.expect(t, exitFailed, "", "payclient: attempt 1 to "+server+" failed: ")
	if lines := strings.Count(o.stderr, "the next one follows in "); lines < 1 || lines > 2 {
		t.Errorf("got %d lines about retries, want 1 or 2\n%s", lines, o.stderr)
	}
	service := clienttest.New()
	o = payclientRun(t, service.Serve(t, clienttest.Repeat(20, clienttest.Unavailable)...).URL, "", "load",
		"--workers=20", "--count=20", "--reads=0")
	o.expect(t, exitOK, "503 × 20", "failed: 503 unavailable")
	if lines := strings.Count(o.stderr, "the next one follows in "); lines > 5 {
		t.Errorf("got %d lines about 20 retries, want few\n%s", lines, o.stderr)
	}
}

// TestRun_Load_HTMLKept: a load that does not begin leaves the file as it was, or absent.
func TestRun_Load_HTMLKept(t *testing.T) {
	dir := t.TempDir()
	absent, earlier := filepath.Join(dir, "absent"), filepath.Join(dir, "earlier")
	long := strings.Repeat("an earlier report ", 10_000)
	if err := os.WriteFile(earlier, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	service := clienttest.New()
	server := service.Serve(t).URL
	for _, path := range []string{absent, earlier} {
		wrong := filepath.Join(dir, "none", "journal")
		payclientRun(t, server, "", "load", "--count=1", "--html", path, "--journal", wrong).
			expect(t, exitUsage, "", "journal:")
	}
	if _, err := os.Stat(absent); !os.IsNotExist(err) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
	if text, err := os.ReadFile(earlier); err != nil || string(text) != long {
		t.Errorf("got %v, %d bytes, want the earlier report", err, len(text))
	}
	payclientRun(t, server, "", "load", "--count=1", "--html", earlier).expect(t, exitOK, "", "")
	if text, err := os.ReadFile(earlier); err != nil || bytes.Contains(text, []byte("an earlier report")) {
		t.Errorf("got %v, want the new report only", err)
	}
}

// TestCommandText: the API keys are not in it, and it can be pasted into a shell.
func TestCommandText(t *testing.T) {
	got := commandText([]string{"--key", "pl_1", "--key=pl_2", "load", "--slo", "p99=50ms", "--html", "a b.html", ""})
	want := "payclient --key … --key=… load --slo p99=50ms --html 'a b.html' ''"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSession_wait: a terminal shows how long a command waits.
func TestSession_wait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var terminal bytes.Buffer
		s := &session{ctx: t.Context(), terminal: &terminal}
		_ = s.wait(4*time.Second, func() error {
			time.Sleep(1100 * time.Millisecond)
			return nil
		})
		want := "[=====               ] 1s of at most 4s: waiting until it is sent" + progress.Clear
		if got := terminal.String(); !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want %q at its end", got, want)
		}
	})
}
