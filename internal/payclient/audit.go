package payclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

const (
	// AuditConnections is how many questions to the service are under way at once.
	AuditConnections = 32
	// findingsKept is how many findings of each kind are told in words; all are counted.
	findingsKept = 10
)

// AuditConfig says against what a journal is held.
type AuditConfig struct {
	Topic Topic
	Wait  time.Duration // how long, in all, payments that are still to be sent are waited for
}

// Audit asks the service and the topic what became of every key of a journal: each payment that was answered 202 must be on record, sent, and in the
// topic exactly once, where the record says; of a refused one, and of one that reached no server, there must be no record. What was of unknown outcome
// is told as what it turned out to be, and if it was taken the same holds for it. That a refused payment is not in the topic either follows from its
// having no record, and so no id; a record in the topic of whatever payment that the journal does not know is counted, and may be of other clients.
//
// It is an outsider's check: it uses the HTTP contract and a read_committed reading of the whole topic, and nothing of the service's own. Errors say that it
// could not be carried out.
func Audit(ctx context.Context, tenants []*Client, journal io.Reader, cfg AuditConfig) (AuditReport, error) {
	all, err := readEntries(journal)
	if err != nil {
		return AuditReport{}, err
	}
	if len(all.list) == 0 {
		return AuditReport{}, errors.New("journal: there is no payment in it, and so nothing to judge")
	}
	a := &audit{byName: map[string]*Client{}, until: time.Now().Add(cfg.Wait), wait: cfg.Wait, topic: cfg.Topic.Name, payments: map[uuid.UUID]*audited{}}
	a.report.Torn = all.torn
	for _, c := range tenants {
		a.byName[c.fingerprint()] = c
	}
	if err := a.knowTenants(all.list); err != nil {
		return AuditReport{}, err
	}
	reader, err := cfg.Topic.open()
	if err != nil {
		return AuditReport{}, err
	}
	defer reader.close()
	if err := a.askAll(ctx, all.list); err != nil {
		return AuditReport{}, err
	}
	// After the service was asked, so that what it said was sent is in the topic by now.
	if err := a.readTopic(ctx, reader); err != nil {
		return AuditReport{}, err
	}
	a.judge()
	return a.report, nil
}

// audit is one run.
type audit struct {
	byName map[string]*Client // tenants by their keys' fingerprints
	until  time.Time          // what is not sent by then is found to be unsent
	wait   time.Duration
	topic  string

	mu       sync.Mutex
	report   AuditReport
	payments map[uuid.UUID]*audited // those on record
	ends     map[int32]logEnds
}

// audited is a payment that is on record.
type audited struct {
	key      string
	position *Position // nil: the service says that it is not sent
	found    []Position
}

// knowTenants tells all that is missing together.
func (a *audit) knowTenants(list []*entered) error {
	unknown := map[string]int{}
	for _, e := range list {
		if a.byName[e.tenant] == nil {
			unknown[e.tenant]++
		}
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		faults = append(faults, fmt.Errorf("key: the journal has %d payments of a tenant whose API key is not given (fingerprint %s)", unknown[name], printable(name)))
	}
	return errors.Join(faults...)
}

// askAll asks the service about each key, many at once, and ends with the first question that got no answer.
func (a *audit) askAll(ctx context.Context, list []*entered) error {
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range AuditConnections {
		workers.Go(func() {
			for asking.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(list)) {
					return
				}
				if err := a.ask(asking, list[i]); err != nil {
					stop(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(asking)
}

// ask asks the service about one key: by its payment's id where that is known.
func (a *audit) ask(ctx context.Context, e *entered) error {
	c := a.byName[e.tenant]
	find := func() (Payment, error) { return c.FindByKey(ctx, e.key) }
	if e.outcome == outcomeTaken {
		find = func() (Payment, error) { return c.Get(ctx, e.id.String(), time.Until(a.until)) }
	}
	p, err := find()
	// The code too: a wrong address also answers 404.
	if problem, ok := errors.AsType[*Problem](err); ok && problem.Status == http.StatusNotFound && problem.Code == codeNotFound {
		a.absent(e)
		return nil
	}
	if err == nil && e.outcome != outcomeTaken && !p.Sent() {
		p, err = c.Get(ctx, p.ID, time.Until(a.until))
	}
	if err != nil {
		return err
	}
	id, err := uuid.Parse(p.ID)
	if err != nil {
		return fmt.Errorf("payment %s: %w", printable(p.ID), err)
	}
	a.onRecord(e, id, p.Position)
	return nil
}

// absent takes a key of which the service has no payment.
func (a *audit) absent(e *entered) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Keys++
	switch e.outcome {
	case outcomeTaken:
		a.report.Taken++
		a.report.Lost.add("payment %s was answered 202 and is not on record (key %s)", e.id, e.key)
	case outcomeUnknown:
		a.report.Unknown++
		a.report.UnknownNotTaken++
	default:
		a.report.Refused++
	}
}

// onRecord takes a key of which it has one.
func (a *audit) onRecord(e *entered, id uuid.UUID, at *Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Keys++
	switch e.outcome {
	case outcomeTaken:
		a.report.Taken++
		if id != e.id {
			a.report.Lost.add("payment %s was answered 202, and another one, %s, is on record (key %s)", e.id, id, e.key)
		}
	case outcomeUnknown:
		a.report.Unknown++
		a.report.UnknownTaken++
	default:
		a.report.Refused++
		a.report.Stored.add("key %s was %s, and payment %s is on record", e.key, strings.ReplaceAll(e.outcome, "_", " "), id)
	}
	if other := a.payments[id]; other != nil {
		a.report.Stored.add("payment %s answers for two keys, %s and %s", id, other.key, e.key)
	}
	a.payments[id] = &audited{key: e.key, position: at}
}

// readTopic reads all partitions to their stable ends, which awaitEnds has waited for.
func (a *audit) readTopic(ctx context.Context, reader *topicReader) error {
	if err := a.awaitEnds(ctx, reader); err != nil {
		return err
	}
	for _, partition := range slices.Sorted(maps.Keys(a.ends)) {
		err := reader.read(ctx, partition, a.ends[partition].start, a.ends[partition].stable, func(key []byte, offset int64) {
			a.report.Records++
			id, err := uuid.ParseBytes(key)
			p := a.payments[id]
			if err != nil || p == nil {
				a.report.Others++
				return
			}
			p.found = append(p.found, Position{a.topic, partition, offset})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// judge holds what was found in the topic against what the service says, payment by payment in order of key.
func (a *audit) judge() {
	byKey := func(x, y uuid.UUID) int { return strings.Compare(a.payments[x].key, a.payments[y].key) }
	for _, id := range slices.SortedFunc(maps.Keys(a.payments), byKey) {
		p := a.payments[id]
		if len(p.found) > 1 {
			a.report.Duplicates.add("payment %s is in the topic %d times: at %s", id, len(p.found), positions(p.found))
		}
		switch {
		case p.position == nil && len(p.found) > 0:
			a.report.Unsent.add("payment %s is in the topic at %s, and not marked sent after %v", id, positions(p.found), a.wait)
		case p.position == nil:
			a.report.Unsent.add("payment %s is not sent after %v", id, a.wait)
		case len(p.found) == 0:
			a.absentAt(id, *p.position)
		case !slices.Contains(p.found, *p.position):
			a.report.Misplaced.add("payment %s is in the topic at %s; the service says at %s", id, positions(p.found), positions([]Position{*p.position}))
		default:
			a.report.Confirmed++
		}
	}
}

// absentAt judges a payment that is not in the topic, though the service says that it is at a position.
func (a *audit) absentAt(id uuid.UUID, at Position) {
	ends := a.ends[at.Partition]
	switch {
	case at.Topic == a.topic && at.Offset < ends.start:
		a.report.NotJudged.add("payment %s is at %s, which the topic no longer holds", id, positions([]Position{at}))
	case at.Topic == a.topic && ends.stable <= at.Offset && at.Offset < ends.end:
		a.report.Undecided.add("payment %s is at %s, which an open transaction hides from offset %d on", id, positions([]Position{at}), ends.stable)
	default:
		a.report.Missing.add("payment %s is not in the topic; the service says at %s", id, positions([]Position{at}))
	}
}

// positions writes them as topic/partition:offset.
func positions(list []Position) string {
	var parts []string
	for _, p := range list[:min(len(list), findingsKept)] {
		parts = append(parts, fmt.Sprintf("%s/%d:%d", printable(p.Topic), p.Partition, p.Offset))
	}
	return strings.Join(parts, ", ")
}
