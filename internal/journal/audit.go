package journal

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

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/progress"
)

// AuditConnections is the number of requests that an audit has in flight.
const AuditConnections = 32

// AuditConfig configures an audit.
type AuditConfig struct {
	Topic Topic
	// Wait is how long, in all, the audit waits for payments that are not sent yet.
	Wait time.Duration
	// Progress is a terminal that shows how far the audit is. It may be nil.
	Progress io.Writer
}

// Audit compares a journal with the service and the topic. It needs a client for each tenant of the
// journal.
//
//   - A payment with a 202 must be on record, sent, and in the topic once, where it is reported. If
//     the service does not show positions, Audit cannot check the last, and counts the payment as
//     unplaced.
//   - A key that was refused, or reached no server, must have no payment.
//   - A key of unknown outcome may have a payment or none. If it has one, that must be in the topic
//     like the others.
//   - Records of other payments are counted. They may be those of other clients.
//
// Audit reads the whole topic, read_committed. An error means that it could not be carried out; the
// findings are in the report.
func Audit(ctx context.Context, tenants []*client.Client, journal io.Reader, cfg AuditConfig) (Report, error) {
	all, err := readEntries(journal)
	if err != nil {
		return Report{}, err
	}
	if len(all.list) == 0 {
		return Report{}, errors.New("journal: it has no payment")
	}
	a := &audit{
		tenants: map[string]*client.Client{}, end: time.Now().Add(cfg.Wait), topic: cfg.Topic.Name,
		payments: map[uuid.UUID]*audited{},
	}
	a.report.Torn = all.torn
	for _, c := range tenants {
		a.tenants[c.KeyFingerprint()] = c
	}
	if err := a.checkTenants(all.list); err != nil {
		return Report{}, err
	}
	reader, err := cfg.Topic.Open()
	if err != nil {
		return Report{}, err
	}
	defer reader.Close()
	a.total = int64(len(all.list))
	if err := a.run(ctx, all.list, reader, cfg.Progress); err != nil {
		return Report{}, err
	}
	return a.report, nil
}

// run shows its progress.
func (a *audit) run(ctx context.Context, list []*entry, reader *TopicReader, terminal io.Writer) error {
	defer progress.Start(ctx, terminal, a.progress)()
	if err := a.queryAll(ctx, list); err != nil {
		return err
	}
	// After the service was queried: what it reported as sent is in the topic by now.
	if err := a.readTopic(ctx, reader); err != nil {
		return err
	}
	a.judge()
	return nil
}

// progress returns the line that shows how far the audit is.
func (a *audit) progress(time.Duration) string {
	done := a.queried.Load()
	if done < a.total {
		return fmt.Sprintf("%s queried %d of %d payments", progress.Bar(done, a.total), done, a.total)
	}
	return fmt.Sprintf("queried %d payments, read %d records of the topic", a.total, a.read.Load())
}

// audit is one run.
type audit struct {
	tenants map[string]*client.Client // By the fingerprints of their keys.
	end     time.Time                 // A payment that is not sent by then is unsent.
	topic   string

	// total, queried and read are for the progress.
	total         int64
	queried, read atomic.Int64

	mu       sync.Mutex
	report   Report
	payments map[uuid.UUID]*audited // Those on record.
	ends     map[int32]logEnds
}

// audited is a payment that is on record.
type audited struct {
	key string
	// sent reports that the service reports the payment as sent.
	sent bool
	// position is nil if the payment is not sent, or the service does not show positions.
	position *client.Position
	found    []client.Position
}

// checkTenants reports all tenants without a client together.
func (a *audit) checkTenants(list []*entry) error {
	unknown := map[string]int{}
	for _, e := range list {
		if a.tenants[e.tenant] == nil {
			unknown[e.tenant]++
		}
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		faults = append(faults, fmt.Errorf(
			"key: the journal has %d payments of a tenant whose API key is not given (fingerprint %q)",
			unknown[name], name,
		))
	}
	return errors.Join(faults...)
}

// queryAll queries the service about each key, many at once. It stops at the first query that
// fails.
func (a *audit) queryAll(ctx context.Context, list []*entry) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range AuditConnections {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(list)) {
					return
				}
				if err := a.query(ctx, list[i]); err != nil {
					stop(err)
				}
				a.queried.Add(1)
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// query queries the service about one key, by the payment's id if that is known.
func (a *audit) query(ctx context.Context, e *entry) error {
	c := a.tenants[e.tenant]
	var p client.Payment
	var err error
	if e.outcome == outcomeTaken {
		p, err = c.Wait(ctx, e.id.String(), time.Until(a.end))
	} else {
		p, err = c.FindByKey(ctx, e.key)
	}
	// The code too: a wrong address also gets a 404.
	problem, ok := errors.AsType[*client.ProblemError](err)
	if ok && problem.Status == http.StatusNotFound && problem.Code == client.CodeNotFound {
		a.absent(e)
		return nil
	}
	if err == nil && e.outcome != outcomeTaken && !p.Sent() {
		p, err = c.Wait(ctx, p.ID, time.Until(a.end))
	}
	if err != nil {
		return err
	}
	id, err := uuid.Parse(p.ID)
	if err != nil {
		return fmt.Errorf("payment %s: %w", p.ID, err)
	}
	a.present(e, id, p)
	return nil
}

// absent counts a key for which the service has no payment.
func (a *audit) absent(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Keys++
	switch e.outcome {
	case outcomeTaken:
		a.report.Taken++
		a.report.Lost.add("payment %s got a 202 and is not on record (key %s)", e.id, e.key)
	case outcomeUnknown:
		a.report.Unknown++
		a.report.UnknownNotTaken++
	default:
		a.report.Refused++
	}
}

// present counts a key for which the service has a payment.
func (a *audit) present(e *entry, id uuid.UUID, p client.Payment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Keys++
	switch e.outcome {
	case outcomeTaken:
		a.report.Taken++
		if id != e.id {
			a.report.Lost.add("payment %s got a 202, and another one, %s, is on record (key %s)", e.id, id, e.key)
		}
	case outcomeUnknown:
		a.report.Unknown++
		a.report.UnknownTaken++
	default:
		a.report.Refused++
		a.report.Stored.add("key %s was %s, and payment %s is on record",
			e.key, strings.ReplaceAll(e.outcome, "_", " "), id)
	}
	if other := a.payments[id]; other != nil {
		a.report.Stored.add("payment %s is that of two keys, %s and %s", id, other.key, e.key)
	}
	a.payments[id] = &audited{key: e.key, sent: p.Sent(), position: p.Position}
}

// readTopic reads all partitions up to their stable offsets.
func (a *audit) readTopic(ctx context.Context, reader *TopicReader) error {
	if err := a.awaitEnds(ctx, reader); err != nil {
		return err
	}
	for _, partition := range slices.Sorted(maps.Keys(a.ends)) {
		ends := a.ends[partition]
		err := reader.read(ctx, partition, ends.start, ends.stable, func(key []byte, offset int64) {
			a.report.Records++
			a.read.Add(1)
			id, err := uuid.ParseBytes(key)
			p := a.payments[id]
			if err != nil || p == nil {
				a.report.Others++
				return
			}
			p.found = append(p.found, client.Position{Topic: a.topic, Partition: partition, Offset: offset})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// judge compares the payments with the topic, in order of key.
func (a *audit) judge() {
	byKey := func(x, y uuid.UUID) int { return strings.Compare(a.payments[x].key, a.payments[y].key) }
	var c Comparison
	for _, id := range slices.SortedFunc(maps.Keys(a.payments), byKey) {
		p := a.payments[id]
		c.add(Payment{ID: id, Sent: p.sent, Position: p.position}, p.found, func(p Payment) {
			a.judgeAbsent(p, &c)
		})
	}
	a.report.Confirmed, a.report.Unsent, a.report.Missing = c.Confirmed, c.Unsent, c.Missing
	a.report.Duplicates, a.report.Misplaced, a.report.Unplaced = c.Duplicates, c.Misplaced, c.Unplaced
}

// judgeAbsent judges a payment that is not in the topic, though the service reports it as sent.
func (a *audit) judgeAbsent(p Payment, c *Comparison) {
	if p.Position == nil {
		a.judgeUnplaced(p, c)
		return
	}
	at := *p.Position
	ends, place := a.ends[at.Partition], positions([]client.Position{at})
	switch {
	case at.Topic == a.topic && at.Offset < ends.start:
		a.report.NotJudged.add("payment %s is at %s, which the topic no longer has", p.ID, place)
	case at.Topic == a.topic && ends.stable <= at.Offset && at.Offset < ends.end:
		a.report.Hidden.add("payment %s is at %s, which an open transaction hides from offset %d on",
			p.ID, place, ends.stable)
	default:
		c.missing(p)
	}
}

// judgeUnplaced judges a payment that is not in the topic, and whose position the service does not
// show. It may be in any partition. So it is missing only if each partition has all its records,
// and consumers see all of them.
func (a *audit) judgeUnplaced(p Payment, c *Comparison) {
	var open, deleted bool
	for _, ends := range a.ends {
		open = open || ends.stable < ends.end
		deleted = deleted || ends.start > 0
	}
	switch {
	case open:
		a.report.Hidden.add("payment %s is not in the topic, unless an open transaction hides it; "+
			"the service does not show its position", p.ID)
	case deleted:
		a.report.NotJudged.add("payment %s is not in the topic, or no longer; "+
			"the service does not show its position", p.ID)
	default:
		c.missing(p)
	}
}
