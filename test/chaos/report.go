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

// evidence is what the judges were shown.
type evidence struct {
	report  auditor.Report
	rows    []row
	kcat    []record
	console []record
	dirty   int // Records as a read_uncommitted consumer sees them.
}

// gather asks all witnesses.
func (s *stage) gather(ctx context.Context) (e evidence, err error) {
	if e.report, err = verify(ctx, s.binary, s.direct()); err != nil {
		return e, err
	}
	if e.rows, err = s.postgres.table(ctx); err != nil {
		return e, err
	}
	if e.kcat, err = s.kafka.Kcat(ctx, "read_committed"); err != nil {
		return e, err
	}
	if e.console, err = s.kafka.ConsoleConsumer(ctx); err != nil {
		return e, err
	}
	dirty, err := s.kafka.Kcat(ctx, "read_uncommitted")
	e.dirty = len(dirty)
	return e, err
}

// disagreements tells where the witnesses contradict each other.
func (e evidence) disagreements(v *verdict) (faults []string) {
	if !slices.Equal(e.kcat, e.console) {
		faults = append(faults, fmt.Sprintf("kcat and Kafka's console consumer do not read the same: %d and %d records", len(e.kcat), len(e.console)))
	}
	r := e.report
	if r.Records != int64(len(e.kcat)) || r.Payments != int64(len(e.rows)) {
		faults = append(faults, fmt.Sprintf("paylatch verify sees %d records and %d payments, the others %d and %d", r.Records, r.Payments, len(e.kcat), len(e.rows)))
	}
	if r.Duplicates != int64(v.Duplicates) || r.Missing != int64(v.Missing) || r.Unexpected != int64(v.Unexpected) ||
		r.Unsent != int64(v.Unsent) || r.Undecided != 0 || r.NotJudged != (auditor.NotJudged{}) {
		faults = append(faults, fmt.Sprintf("paylatch verify says %+v, the others %s", r, v))
	}
	return faults
}

// judge gathers the evidence, prints what was done and seen, and says the verdict.
func (s *stage) judge(ctx context.Context, w io.Writer, t *tormentor) error {
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
	if i := t.isolated; 2*i.letGo < i.judged {
		faults = append(faults, fmt.Sprintf("a replica that Kafka did not answer for long let go of its partitions in %d of %d cases: it starves them", i.letGo, i.judged))
	}
	faults = append(faults, harsh(s.duration, t.fired, s.brokers, s.log.windows())...)
	if len(faults) > 0 {
		_, _ = fmt.Fprintf(w, "VERDICT: FAILED (seed %d)\n", s.seed)
		return errors.New(strings.Join(faults, "\n"))
	}
	_, _ = fmt.Fprintf(w, "VERDICT: exactly once: 0 duplicates, 0 missing, 0 unexpected, order kept; three read_committed consumers, the table and the journal agree (seed %d)\n", s.seed)
	return nil
}

// control is the verdict on locked delivery: its known limit must have been seen, by our judge as by paylatch verify; nothing may be lost all the same.
func (s *stage) control(w io.Writer, v *verdict, e evidence, faults []string) error {
	if v.Missing+v.Unexpected+v.Unsent+v.Lost+v.Unasked+v.Shared > 0 {
		faults = append(faults, v.String())
	}
	if r := e.report; r.Missing+r.Unexpected+r.Undecided+r.Unsent > 0 || r.NotJudged != (auditor.NotJudged{}) {
		faults = append(faults, fmt.Sprintf("paylatch verify says %+v", r))
	}
	if v.Duplicates == 0 || e.report.Duplicates != int64(v.Duplicates) {
		faults = append(faults, fmt.Sprintf("the judge counts %d duplicates and paylatch verify %d; as many, and some, there must be", v.Duplicates, e.report.Duplicates))
	}
	if len(faults) > 0 {
		_, _ = fmt.Fprintf(w, "VERDICT: the control FAILED (seed %d)\n", s.seed)
		return errors.New(strings.Join(faults, "\n"))
	}
	_, _ = fmt.Fprintf(w, "VERDICT: control: locked delivery lost nothing and repeated %d records, and judge and verify count them (seed %d)\n", v.Duplicates, s.seed)
	return nil
}

// print tells what was done and what came of it.
func (s *stage) print(w io.Writer, t *tormentor, e evidence) {
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%-26s "+format+"\n", append([]any{name}, args...)...)
	}
	_, _ = fmt.Fprintln(w)
	total := 0
	for _, share := range bagOf(s.brokers) {
		skipped := ""
		if n := t.skipped[share.kind]; n > 0 {
			skipped = fmt.Sprintf("  (and %d that found nobody to hit)", n)
		}
		line(string(share.kind), "%6d%s", t.fired[share.kind], skipped)
		total += t.fired[share.kind]
	}
	line("faults", "%6d  seed %d, %s", total, s.seed, s.duration)
	_, _ = fmt.Fprintln(w)
	line("requests", "%6d  %d times without an answer at first, %d answered as replays", len(s.client.journal), s.client.unknown, s.client.replays)
	line("payments", "%6d  in the table", len(e.rows))
	line("records", "%6d  paylatch verify; kcat %d; console consumer %d", e.report.Records, len(e.kcat), len(e.console))
	r := e.report
	line("paylatch verify", "%6d  duplicates, %d missing, %d unexpected, %d undecided, %d unsent",
		r.Duplicates, r.Missing, r.Unexpected, r.Undecided, r.Unsent)
	line("aborted records", "%6d  in the log, seen by read_uncommitted only", e.dirty-len(e.kcat))
	line("windows hit", "%6d  take-overs that found payments which Kafka had committed and PostgreSQL had not; %s", s.log.windows(), s.found())
	line("cut off for long", "%6d  replicas, %d let go of their partitions until Kafka answered again", t.isolated.judged, t.isolated.letGo)
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

// found sums up the take-overs.
func (s *stage) found() string {
	found, restored := 0, 0
	for _, o := range s.log.takeOvers {
		found += o.Found
		restored += o.Restored
	}
	return fmt.Sprintf("of %d take-overs, %d payments, %d restored", len(s.log.takeOvers), found, restored)
}

// times prints how long take-overs took: from the kill to the first take-over of each partition that the killed replica owned, and the take-over itself.
func (s *stage) times(line func(name, format string, args ...any), t *tormentor) {
	var all, calm, took []time.Duration
	slices.SortFunc(s.log.takeOvers, func(a, b takeOver) int { return a.At.Compare(b.At) })
	for _, l := range t.losses {
		for _, partition := range l.owned {
			for _, o := range s.log.takeOvers {
				if o.Partition == partition && o.At.After(l.at) {
					all = append(all, o.At.Sub(l.at))
					if !t.during(l.at, o.At) {
						calm = append(calm, o.At.Sub(l.at))
						took = append(took, time.Duration(o.TookMS)*time.Millisecond)
					}
					break
				}
			}
		}
	}
	line("take-over after kill -9", "%s", quantiles(all))
	line("  without an outage", "%s", quantiles(calm))
	line("  the take-over itself", "%s", quantiles(took))
}

// during tells whether PostgreSQL or a broker was down at some time in between.
func (t *tormentor) during(from, to time.Time) bool {
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
