package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/loadtest"
)

// payclientBinary builds payclient and returns its path.
func payclientBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "payclient")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path,
		"github.com/paylatch/paylatch/cmd/payclient").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// clientOf prepares a command of payclient for all tenants and replicas of an installation.
func (i *installation) clientOf(binary string, keys []string, replicas []*process, args ...string) *exec.Cmd {
	var servers []string
	for _, p := range replicas {
		servers = append(servers, p.api)
	}
	cmd := exec.Command(binary, args...)
	cmd.SysProcAttr = endWithUs()
	cmd.Env = append(os.Environ(), "PAYLATCH_SERVER="+strings.Join(servers, ","),
		"PAYLATCH_API_KEY="+strings.Join(keys, ","),
		"PAYLATCH_KAFKA_BROKERS="+i.env["PAYLATCH_KAFKA_BROKERS"], "PAYLATCH_TOPIC="+i.topic)
	return cmd
}

// TestLoadAndAudit checks the audit of the client. An open load of two tenants writes a journal,
// and a replica is killed during it. A second load writes the same journal, and the client is
// killed.
//
// The audit finds each payment with a 202 stored, and in the topic once. It reports the outcome of
// requests that the killed client had in progress. The control writes one record a second time,
// which the audit must find.
func TestLoadAndAudit(t *testing.T) {
	t.Parallel()
	i := install(t)
	keys := []string{i.key, i.tenant(t, "globex")}
	binary, path := payclientBinary(t), filepath.Join(t.TempDir(), "journal.jsonl")
	page := filepath.Join(t.TempDir(), "report.html")
	replicas := []*process{i.launch(t, "serve"), i.launch(t, "serve")}
	lines := func() int {
		text, _ := os.ReadFile(path)
		return bytes.Count(text, []byte("\n"))
	}

	load := i.clientOf(binary, keys, replicas, "--retry-for", "2m", "load", "--rate", "10,30", "--step", "4s",
		"--reads", "3",
		"--in-flight", "4000", "--accounts", "100", "--json", "--journal", path, "--html", page, "--slo",
		"end_to_end.max=10m,p99=10m", "--settle", "60s")
	var stdout, stderr bytes.Buffer
	load.Stdout, load.Stderr = &stdout, &stderr
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the load is in progress", func() error {
		if lines() < 100 {
			return errNotYet
		}
		return nil
	})
	replicas[1].kill()
	if err := load.Wait(); err != nil {
		t.Fatalf("load: %v\n%s%s", err, stdout.String(), stderr.String())
	}
	var report loadtest.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if w, e := report.Create, report.EndToEnd; w.Planned != 160 || w.Done != 160 || report.Status.Planned != 480 ||
		e == nil || e.Missing != 0 || e.Latency.Count != 160 {
		t.Errorf("got %+v, want 160 creates and 480 reads planned, all creates done and read from the topic", report)
	}
	if len(report.Verdicts) != 3 || report.Retries == 0 || report.Tenants != 2 {
		t.Errorf("got %d verdicts, %d retries, %d tenants, want 3, some, 2", len(report.Verdicts),
			report.Retries, report.Tenants)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte("</svg>")) {
		t.Errorf("the page: got error %v and %d bytes, want a plot", err, len(html))
	}

	before := lines()
	killed := i.clientOf(binary, keys, replicas, "load", "--rate", "100", "--duration", "10m", "--reads", "0",
		"--journal", path)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second load is in progress", func() error {
		if lines() < before+100 {
			return errNotYet
		}
		return nil
	})
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	i.drained(t)

	audit := func() (journal.Report, int) {
		t.Helper()
		cmd := i.clientOf(binary, keys, replicas[:1], "audit", "--journal", path, "--wait", "60s", "--json")
		out, _ := cmd.Output()
		var r journal.Report
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("audit: %v\n%s", err, out)
		}
		return r, cmd.ProcessState.ExitCode()
	}
	r, code := audit()
	t.Logf("%+v", r)
	stored := int64(i.count(t, `select count(*) from payments`))
	if code != 0 || r.Confirmed != stored || r.Taken+r.UnknownTaken != stored || r.Taken < 160 || r.Others != 0 {
		t.Errorf("got exit code %d and %+v, want 0, and all %d stored payments confirmed", code, r, stored)
	}

	again := i.records(t)[0]
	client, err := kgo.NewClient(kgo.SeedBrokers(i.env["PAYLATCH_KAFKA_BROKERS"]), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), &kgo.Record{
		Topic: i.topic, Key: again.Key,
		Value: again.Value,
	}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if r, code := audit(); code != 1 || r.Duplicates.Count != 1 || !strings.Contains(fmt.Sprint(r.Duplicates.First),
		string(again.Key)) {
		t.Errorf("the control: got exit code %d and %+v, want 1 and one duplicate", code, r)
	}
}
