package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/loadtest"
)

// printHead begins the table; each step adds its row when it ends.
func printHead(w io.Writer) {
	_, _ = fmt.Fprintf(w, "%-18s %5s %7s %7s  %-22s %7s %7s %8s %7s  %s\n", "step", "s", "writes", "reads",
		"first attempts", "p50 ms", "p99 ms", "takeover", "resent", "payments sent, by replica")
}

func (r row) print(w io.Writer) {
	took := "-"
	if r.took > 0 {
		took = r.took.Round(time.Millisecond).String()
	}
	writes := r.load.Create
	_, _ = fmt.Fprintf(w, "%-18s %5.0f %7d %7d  %-22s %7.1f %7.1f %8s %7s  %s\n", r.name, r.load.Elapsed.Seconds(),
		writes.Done, r.load.Status.Done, firstAttempts(r.load), milliseconds(writes.Latency.P50),
		milliseconds(writes.Latency.P99), took, r.balancer, shares(r.sent))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// firstAttempts names the responses to first attempts of writes and reads.
func firstAttempts(r loadtest.Report) string {
	sum := maps.Clone(r.Create.FirstResponses)
	for label, n := range r.Status.FirstResponses {
		sum[label] += n
	}
	var list []string
	for _, label := range slices.Sorted(maps.Keys(sum)) {
		list = append(list, fmt.Sprintf("%s×%d", label, sum[label]))
	}
	return strings.Join(list, " ")
}

func shares(sent map[string]int64) string {
	var total int64
	for _, n := range sent {
		total += n
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		list = append(list, fmt.Sprintf("#%s %d (%d%%)", shortName(name), sent[name], 100*sent[name]/max(total, 1)))
	}
	return strings.Join(list, " ")
}

// evidence is all that the verdict rests on.
type evidence struct {
	rows    []row
	verify  auditor.Report // paylatch verify.
	readers []counts       // Consumers that are not ours.
	audit   journal.Report // From the client's journal.
}

// judge audits in four ways and prints the verdict.
func (t *test) judge(ctx context.Context, w io.Writer) error {
	e := evidence{rows: t.rows}
	var err error
	e.verify, err = t.verify(ctx)
	if err != nil {
		return err
	}
	e.readers, err = t.read(ctx)
	if err != nil {
		return err
	}
	e.audit, err = t.load.audit(ctx, brokers.At(addresses(t.cluster.count)...))
	if err != nil {
		return err
	}
	if t.cluster.count > 1 {
		if err := t.cluster.replicated(ctx); err != nil {
			return err
		}
		t.proved("all partitions of %s, %s and %s have %d replicas, of which %s must be in sync", topic,
			transactionState,
			consumerOffsets, replicationWant, inSyncWant)
	}
	e.print(w)
	for _, p := range t.proofs {
		_, _ = fmt.Fprintln(w, "seen:", p)
	}
	if err := e.faults(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w, "VERDICT: each payment is in the topic exactly once; no first attempt failed with "+
		"anything but 503 and Retry-After, and no request failed after its retries")
	return nil
}

func (e evidence) print(w io.Writer) {
	v := e.verify
	_, _ = fmt.Fprintf(w, "\npaylatch verify    %d payments, %d records: %d duplicates, %d missing, %d unexpected, "+
		"%d differing, %d hidden, %d unsent\n", v.Payments, v.Records, v.Duplicates, v.Missing, v.Unexpected,
		v.Differing, v.Hidden, v.Unsent)
	for _, r := range e.readers {
		_, _ = fmt.Fprintf(w, "%-18s %d records of %d payments\n", r.name, r.records, r.payments)
	}
	_, _ = fmt.Fprintf(w, "payclient audit    %d payments in the journal, %d confirmed\n", e.audit.Keys,
		e.audit.Confirmed)
}

// faults lists what must not be.
func (e evidence) faults() error {
	errs := []error{e.audit.Fault()}
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if e.verify.Missing > 0 || e.verify.Unexpected > 0 || e.verify.Hidden > 0 || e.verify.Unsent > 0 {
		fault("missing, unexpected, hidden or unsent payments: %+v", e.verify)
	}
	if e.verify.NotJudged != (auditor.NotJudged{}) {
		fault("not all is judged, though all is drained: %+v", e.verify.NotJudged)
	}
	if e.verify.Differing > 0 {
		fault("%d payments differ from their records", e.verify.Differing)
	}
	if e.verify.Duplicates > 0 {
		fault("%d duplicates", e.verify.Duplicates)
	}
	for _, r := range e.readers {
		if r.records != e.verify.Records || r.payments != e.verify.Records-e.verify.Duplicates {
			fault("%s reads %d records of %d payments, verify %d of %d", r.name, r.records, r.payments,
				e.verify.Records,
				e.verify.Records-e.verify.Duplicates)
		}
	}
	var done int64
	sent := map[string]int64{}
	for _, r := range e.rows {
		errs = append(errs, r.faults())
		done += r.load.Create.Done
		for name, n := range r.sent {
			sent[name] += n
		}
	}
	if done < 100 || e.verify.Payments != done || e.audit.Confirmed != done {
		fault("%d creates were accepted, %d payments are stored, %d confirmed by the audit; "+
			"want the same, at least 100",
			done, e.verify.Payments, e.audit.Confirmed)
	}
	for name, n := range sent {
		if n == 0 {
			fault("replica %s sent nothing", name)
		}
	}
	return errors.Join(errs...)
}

// faults lists what must not be in one step.
func (r row) faults() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("step %q: %w", r.name, fmt.Errorf(format, args...)))
	}
	for kind, w := range map[string]loadtest.Work{"creates": r.load.Create, "status requests": r.load.Status} {
		if w.Done == 0 {
			fault("no %s", kind)
		}
		if w.Failed > 0 || w.Unknown > 0 {
			fault("%d %s failed and %d ended unknown after their retries: %v", w.Failed, kind, w.Unknown, r.load.Errors)
		}
		for label, n := range w.FirstResponses {
			// "503" is one with Retry-After; payclient names one without it otherwise.
			if label != "202" && label != "200" && label != "503" {
				fault("%d first attempts of %s ended with %q", n, kind, label)
			}
		}
	}
	if r.balancer.Resent > 0 && !r.killing {
		fault("%d requests got no response from a replica that stopped, and were sent to another one",
			r.balancer.Resent)
	}
	if r.stops.Redispatched > 0 {
		fault("%d requests found that a replica had stopped, before the balancer did", r.stops.Redispatched)
	}
	if r.balancer.Resent == 0 && r.killing {
		fault("no request was interrupted: the kill proves nothing")
	}
	return errors.Join(errs...)
}
