package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/auditor"
)

// evidence is what the verdict rests on.
type evidence struct {
	report      auditor.Report
	rows        []row
	kcat        []record
	console     []record
	uncommitted int // Records that a read_uncommitted consumer reads.
}

// gather reads the table and the topic in all ways.
func (s *stage) gather(ctx context.Context) (e evidence, err error) {
	e.report, err = verify(ctx, s.binary, s.direct())
	if err != nil {
		return e, err
	}
	e.rows, err = s.postgres.table(ctx)
	if err != nil {
		return e, err
	}
	e.kcat, err = s.kafka.Kcat(ctx, "read_committed")
	if err != nil {
		return e, err
	}
	e.console, err = s.kafka.ConsoleConsumer(ctx)
	if err != nil {
		return e, err
	}
	uncommitted, err := s.kafka.Kcat(ctx, "read_uncommitted")
	e.uncommitted = len(uncommitted)
	return e, err
}

// disagreements returns where the witnesses contradict each other.
func (e evidence) disagreements(v *verdict) (faults []string) {
	if !slices.Equal(e.kcat, e.console) {
		faults = append(faults, fmt.Sprintf("kcat read %d records, the console consumer %d, and not the same",
			len(e.kcat), len(e.console)))
	}
	r := e.report
	if r.Records != int64(len(e.kcat)) || r.Payments != int64(len(e.rows)) {
		faults = append(faults, fmt.Sprintf("paylatch verify counts %d records and %d payments, the others %d and %d",
			r.Records, r.Payments, len(e.kcat), len(e.rows)))
	}
	if r.Duplicates != int64(v.Duplicates) || r.Missing != int64(v.Missing) || r.Unexpected != int64(v.Unexpected) ||
		r.Unsent != int64(v.Unsent) || r.Differing != 0 || r.Hidden != 0 || r.NotJudged != (auditor.NotJudged{}) {
		faults = append(faults, fmt.Sprintf("paylatch verify reports %+v, the others %s", r, v))
	}
	return faults
}

// judge gathers the evidence, and prints the report and the verdict.
func (s *stage) judge(ctx context.Context, w io.Writer, t *injector) error {
	e, err := s.gather(ctx)
	if err != nil {
		return fmt.Errorf("judge: %w", err)
	}
	journal := s.client.journal
	v := judge(journal, e.rows, e.kcat)
	s.print(w, t, e)
	var faults []string
	if !slices.Equal(e.kcat, e.console) || s.delivery == "fenced" {
		faults = e.disagreements(v)
	}
	faults = append(faults, s.client.refusals...)
	faults = append(faults, s.log.died...)
	if s.delivery == "locked" {
		return s.control(w, v, e, faults)
	}
	if !v.ok() {
		faults = append(faults, append([]string{v.String()}, v.Examples...)...)
	}
	if i := t.isolated; 2*i.released < i.judged {
		faults = append(faults, fmt.Sprintf("replicas that were cut off from Kafka for long released their "+
			"partitions in %d of %d cases, want at least half: they starve them", i.released, i.judged))
	}
	faults = append(faults, coverage(s.duration, t.fired, s.brokers, s.log.windows())...)
	if len(faults) > 0 {
		_, _ = fmt.Fprintf(w, "VERDICT: FAILED (seed %d)\n", s.seed)
		return errors.New(strings.Join(faults, "\n"))
	}
	_, _ = fmt.Fprintf(w, "VERDICT: exactly once: 0 duplicates, 0 missing, 0 unexpected, order kept; "+
		"three read_committed consumers, the table and the journal agree (seed %d)\n", s.seed)
	return nil
}

// control judges locked delivery. Both judge and `paylatch verify` must find duplicates, and
// nothing may be lost.
func (s *stage) control(w io.Writer, v *verdict, e evidence, faults []string) error {
	if v.Missing+v.Unexpected+v.Unsent+v.Lost+v.Unrequested+v.Shared > 0 {
		faults = append(faults, v.String())
	}
	if r := e.report; r.Missing+r.Unexpected+r.Differing+r.Hidden+r.Unsent > 0 || r.NotJudged != (auditor.NotJudged{}) {
		faults = append(faults, fmt.Sprintf("paylatch verify reports %+v", r))
	}
	if v.Duplicates == 0 || e.report.Duplicates != int64(v.Duplicates) {
		faults = append(faults, fmt.Sprintf("the judge counts %d duplicates, paylatch verify %d; "+
			"want the same, at least 1", v.Duplicates, e.report.Duplicates))
	}
	if len(faults) > 0 {
		_, _ = fmt.Fprintf(w, "VERDICT: the control FAILED (seed %d)\n", s.seed)
		return errors.New(strings.Join(faults, "\n"))
	}
	_, _ = fmt.Fprintf(w, "VERDICT: control: locked delivery lost nothing and repeated %d records, "+
		"and judge and verify count them (seed %d)\n", v.Duplicates, s.seed)
	return nil
}

// print prints which faults fired, and what was found.
func (s *stage) print(w io.Writer, t *injector, e evidence) {
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%-26s "+format+"\n", append([]any{name}, args...)...)
	}
	_, _ = fmt.Fprintln(w)
	total := 0
	for _, share := range bagOf(s.brokers) {
		skipped := ""
		if n := t.skipped[share.kind]; n > 0 {
			skipped = fmt.Sprintf("  (and %d that found no target)", n)
		}
		line(string(share.kind), "%6d%s", t.fired[share.kind], skipped)
		total += t.fired[share.kind]
	}
	line("faults", "%6d  seed %d, %s", total, s.seed, s.duration)
	_, _ = fmt.Fprintln(w)
	line("requests", "%6d  %d times without a response at first, %d replays",
		len(s.client.journal), s.client.unknown, s.client.replays)
	line("payments", "%6d  in the table", len(e.rows))
	line("records", "%6d  paylatch verify; kcat %d; console consumer %d", e.report.Records, len(e.kcat), len(e.console))
	r := e.report
	line("paylatch verify", "%6d  duplicates, %d missing, %d unexpected, %d differing, %d hidden, %d unsent",
		r.Duplicates, r.Missing, r.Unexpected, r.Differing, r.Hidden, r.Unsent)
	line("aborted records", "%6d  in the log, read by read_uncommitted only", e.uncommitted-len(e.kcat))
	line("windows hit", "%6d  takeovers that found payments which only Kafka had committed; %s",
		s.log.windows(), s.found())
	line("cut off for long", "%6d  replicas, %d released their partitions until Kafka responded again",
		t.isolated.judged, t.isolated.released)
	s.times(line, t)
	line("errors logged", "%6d  by replicas", s.log.errorsN)
	for _, example := range s.log.errors[:min(3, len(s.log.errors))] {
		line("", "%.200s", example)
	}
	stuck := 0
	for _, r := range s.fleet.replicas {
		for _, l := range r.links {
			stuck += l.Stuck()
		}
	}
	line("toxiproxies replaced", "%6d  that hung", stuck)
}

// found returns the totals of all takeovers.
func (s *stage) found() string {
	found, restored := 0, 0
	for _, o := range s.log.takeovers {
		found += o.Found
		restored += o.Restored
	}
	return fmt.Sprintf("of %d takeovers, %d payments, %d restored", len(s.log.takeovers), found, restored)
}

// times prints how long takeovers took: from a kill to the first takeover of each partition that
// the replica owned, and the takeover itself.
func (s *stage) times(line func(name, format string, args ...any), t *injector) {
	var all, calm, took []time.Duration
	slices.SortFunc(s.log.takeovers, func(a, b takeover) int { return a.At.Compare(b.At) })
	for _, l := range t.losses {
		for _, partition := range l.owned {
			for _, o := range s.log.takeovers {
				if o.Partition == partition && o.At.After(l.at) {
					all = append(all, o.At.Sub(l.at))
					if !t.during(l.at, o.At) {
						calm = append(calm, o.At.Sub(l.at))
						took = append(took, time.Duration(o.Took*float64(time.Second)))
					}
					break
				}
			}
		}
	}
	line("takeover after kill -9", "%s", quantiles(all))
	line("  without an outage", "%s", quantiles(calm))
	line("  the takeover itself", "%s", quantiles(took))
}

// during reports whether PostgreSQL or a broker was down at some time in between.
func (t *injector) during(from, to time.Time) bool {
	return slices.ContainsFunc(t.outages, func(o outage) bool { return o.from.Before(to) && o.to.After(from) })
}

func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "     -"
	}
	slices.Sort(d)
	at := func(q float64) time.Duration { return d[int(q*float64(len(d)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("%6d  median %s, p90 %s, most %s", len(d), at(0.5), at(0.9), at(1))
}
