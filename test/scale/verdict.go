package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/auditor"
)

// print shows the table.
func (t *test) print(w io.Writer) {
	_, _ = fmt.Fprintf(w, "%-18s %7s %7s  %-24s %7s %7s %9s  %s\n",
		"step", "writes", "reads", "answers to writes", "p50 ms", "p99 ms", "take-over", "payments sent, by replica")
	for _, r := range t.rows {
		took := "-"
		if r.took > 0 {
			took = r.took.Round(time.Millisecond).String()
		}
		_, _ = fmt.Fprintf(w, "%-18s %7d %7d  %-24s %7.1f %7.1f %9s  %s\n", r.name, r.result.Writes.Done, r.result.Reads.Done, answers(r.result),
			float64(r.result.Writes.Latency.P50)/1e6, float64(r.result.Writes.Latency.P99)/1e6, took, shares(r.replicas))
	}
}

func answers(r loadResult) string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(r.Writes.Answers)) {
		parts = append(parts, fmt.Sprintf("%s×%d", code, r.Writes.Answers[code]))
	}
	if r.Retries > 0 {
		parts = append(parts, fmt.Sprintf("retried×%d", r.Retries))
	}
	return strings.Join(parts, " ")
}

func shares(sent map[string]int64) string {
	var total int64
	for _, n := range sent {
		total += n
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		parts = append(parts, fmt.Sprintf("#%s %d (%d%%)", shortName(name), sent[name], 100*sent[name]/max(total, 1)))
	}
	return strings.Join(parts, " ")
}

// judge audits three times and says the verdict.
func (t *test) judge(ctx context.Context, w io.Writer) error {
	report, err := t.verify(ctx)
	if err != nil {
		return err
	}
	console, err := t.consoleConsumer(ctx)
	if err != nil {
		return err
	}
	kcat, err := t.kcat(ctx)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(w, "\npaylatch verify    %d payments, %d records: %d duplicates, %d missing, %d unexpected, %d undecided, %d unsent\n",
		report.Payments, report.Records, report.Duplicates, report.Missing, report.Unexpected, report.Undecided, report.Unsent)
	_, _ = fmt.Fprintf(w, "console consumer   %d records of %d payments\nkcat               %d records of %d payments\n",
		console.records, console.payments, kcat.records, kcat.payments)
	_, _ = fmt.Fprintf(w, "killed with -9     %s, which owned %d partitions\n", strings.Join(t.killed, " and "), t.exposed)
	if err := t.faults(report, console, kcat); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w, "VERDICT: each payment is in the topic exactly once")
	return nil
}

// faults gathers what may not be.
func (t *test) faults(report auditor.Report, readers ...counts) error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if report.Missing > 0 || report.Unexpected > 0 || report.Undecided > 0 || report.Unsent > 0 {
		fault("missing, unexpected, undecided or unsent payments: %+v", report)
	}
	if report.NotJudged != (auditor.NotJudged{}) {
		fault("not all is judged, though all is drained: %+v", report.NotJudged)
	}
	if report.Duplicates > 0 {
		fault("%d duplicates", report.Duplicates)
	}
	for _, r := range readers {
		if r.records != report.Records || r.payments != report.Records-report.Duplicates {
			fault("%s reads %d records of %d payments, verify %d of %d", r.name, r.records, r.payments, report.Records, report.Records-report.Duplicates)
		}
	}
	var accepted, bad int64
	for _, r := range t.rows {
		accepted += r.result.Writes.Answers["202"]
		bad += r.result.Writes.Failed + r.result.Writes.Unknown
	}
	if bad > 0 {
		fault("%d creates failed or ended unknown, though there was always a replica", bad)
	}
	if accepted < 100 || report.Payments < accepted-t.replays() {
		fault("%d creates were answered 202 (%d of them replays), %d payments are there", accepted, t.replays(), report.Payments)
	}
	sentBy := map[string]int64{}
	for _, r := range t.rows {
		for replica, sent := range r.replicas {
			sentBy[replica] += sent
		}
	}
	for replica, sent := range sentBy {
		if sent == 0 {
			fault("replica %s did no work", replica)
		}
	}
	return errors.Join(errs...)
}

func (t *test) replays() (n int64) {
	for _, r := range t.rows {
		n += r.result.Replays
	}
	return n
}

// verify runs paylatch verify inside the network. What it finds is judged here.
func (t *test) verify(ctx context.Context) (auditor.Report, error) {
	out, err := t.compose.compose(ctx, "run", "--rm", "-T", "--no-deps", "setup", "verify", "--json")
	var report auditor.Report
	if jsonErr := json.Unmarshal([]byte(out), &report); jsonErr != nil {
		return report, errors.Join(err, jsonErr)
	}
	return report, nil
}

// counts is what a consumer of others' making read.
type counts struct {
	name              string
	records, payments int64
}

func countKeys(name, out string) counts {
	keys := map[string]bool{}
	c := counts{name: name}
	for key := range strings.FieldsSeq(out) {
		keys[key] = true
		c.records++
	}
	c.payments = int64(len(keys))
	return c
}

// consoleConsumer reads the topic with Kafka's own tool; it ends when nothing came for a while.
func (t *test) consoleConsumer(ctx context.Context) (counts, error) {
	out, err := t.compose.compose(ctx, "exec", "-T", "kafka", "/opt/kafka/bin/kafka-console-consumer.sh", "--bootstrap-server", "localhost:29092",
		"--topic", "payments", "--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "8000",
		"--formatter-property", "print.key=true", "--formatter-property", "print.value=false")
	if err != nil && !strings.Contains(err.Error(), "TimeoutException") {
		return counts{}, err
	}
	return countKeys("Kafka's console consumer", out), nil
}

// kcat reads the topic with librdkafka, from this machine.
func (t *test) kcat(ctx context.Context) (counts, error) {
	cmd := exec.CommandContext(ctx, "kcat", "-b", "127.0.0.1:"+kafkaPort, "-C", "-t", "payments", "-o", "beginning", "-e", "-q",
		"-X", "isolation.level=read_committed", "-f", "%k\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return counts{}, fmt.Errorf("kcat: %w: %s", err, stderr.String())
	}
	return countKeys("kcat", string(out)), nil
}
