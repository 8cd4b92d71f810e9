package main

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/test/harness"
)

// window is a time in which a server could not confirm anything: the only database that it
// reached had no standby that was there. Server -1 stands for all servers.
type window struct {
	server   int8
	from, to time.Duration
}

func (w window) has(r response) bool {
	return (w.server < 0 || w.server == r.server) && r.began >= w.from && r.ended <= w.to
}

// evidence is what a verdict rests on.
type evidence struct {
	responses []response
	away      []window
	rows      map[uuid.UUID]bool             // The surviving table.
	kcat      map[uuid.UUID][]harness.Record // The topic, read by kcat,
	console   map[uuid.UUID][]harness.Record // and by Kafka's console consumer.
}

// verdict counts violations among the payments of one load, and names the first ones.
type verdict struct {
	Known    int // Payments that a client knows about: the number of things that must hold.
	Lost     int // Known, and absent at the end by id, by key or in the table; or stored a second time.
	LostSent int // Of these, those that are absent and that a client knew as `sent`.
	Denied   int // Responses 404 to a request that began after the client knew the payment.
	Early    int // Responses other than 503 while no standby could confirm.
	Reverted int // Queries that found `created`, and began after the client knew `sent`.
	Moved    int // Payments that were reported at two positions in the topic.
	Twice    int // Payments that a witness read more than once, summed over the witnesses.
	Missing  int // Payments that are stored, and that a witness did not read, summed likewise.
	Faulty   int // Responses that the contract does not have for these requests.
	Examples []string
}

// examplesMax bounds the examples of each kind of violation.
const examplesMax = 5

func (v *verdict) found(n *int, format string, args ...any) {
	*n++
	if *n <= examplesMax {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// judge compares what clients know with what survived.
func judge(e evidence) *verdict {
	v := &verdict{}
	byKey := map[int32][]response{}
	for _, r := range e.responses {
		v.judgeResponse(r, e.away)
		if r.key != unusedKey {
			byKey[r.key] = append(byKey[r.key], r)
		}
	}
	var known []uuid.UUID
	for key, responses := range byKey {
		slices.SortFunc(responses, func(a, b response) int { return cmp.Compare(a.began, b.began) })
		if id, ok := v.judgeKey(e, key, responses); ok {
			known = append(known, id)
		}
	}
	v.compareTopic(e, known)
	return v
}

// judgeResponse judges a response by itself.
func (v *verdict) judgeResponse(r response, away []window) {
	isQuery := r.request == requestByID || r.request == requestByKey
	switch int(r.code) {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return
	case http.StatusOK, http.StatusNotFound: // Also a create that waits until the payment is sent.
		isHeld := r.request == requestCreate && r.payment.sent
		if !isQuery && !isHeld || r.key == unusedKey && r.exists() {
			v.found(&v.Faulty, "key %d: %d in response to request kind %d", r.key, r.code, r.request)
		}
	case http.StatusAccepted: // A conflict is stored only if its key was lost, which judgeKey finds.
		if isQuery {
			v.found(&v.Faulty, "key %d: 202 in response to a query", r.key)
		}
	case http.StatusUnprocessableEntity:
		if r.request != requestConflict || !r.exists() {
			v.found(&v.Faulty, "key %d: 422 in response to request kind %d", r.key, r.request)
		}
	default:
		v.found(&v.Faulty, "key %d: %d in response to request kind %d", r.key, r.code, r.request)
	}
	if slices.ContainsFunc(away, func(w window) bool { return w.has(r) }) {
		v.found(&v.Early, "key %d: %d from replica %d at %s, when no standby could confirm", r.key, r.code, r.server,
			r.ended)
	}
}

// judgeKey judges all responses about one payment, in order of their requests. It returns the id of
// the payment if a client knows it.
func (v *verdict) judgeKey(e evidence, key int32, responses []response) (id uuid.UUID, ok bool) {
	first, ok := earliest(responses, response.exists)
	if !ok {
		return uuid.Nil, false
	}
	v.Known++
	sent, wasSent := earliest(responses, func(r response) bool { return r.payment.sent })
	absent, again := "", ""
	for _, r := range responses {
		switch {
		case r.code == http.StatusNotFound && r.began > first.ended:
			v.found(&v.Denied, "key %d: 404 at %s, known since %s", key, r.ended, first.ended)
			if r.final {
				absent = "is not found"
			}
		case !r.exists():
		case r.payment.id != first.payment.id:
			absent = fmt.Sprintf("has ids %s and %s", first.payment.id, r.payment.id)
		case r.payment.created != first.payment.created && r.payment.created != 0 && first.payment.created != 0:
			again = fmt.Sprintf("was stored a second time before %s", r.ended)
		case wasSent && !r.payment.sent && r.code == http.StatusOK && r.began > sent.ended:
			v.found(&v.Reverted, "key %d: created at %s, sent at %s", key, r.ended, sent.ended)
		}
	}
	if wasSent && slices.ContainsFunc(responses, func(r response) bool {
		return r.payment.sent && (r.payment.partition != sent.payment.partition ||
			r.payment.offset != sent.payment.offset)
	}) {
		v.found(&v.Moved, "key %d: sent at %d/%d, and elsewhere", key, sent.payment.partition, sent.payment.offset)
	}
	stored := e.rows[first.payment.id]
	if !stored {
		absent = "is not in the table"
	}
	if why := cmp.Or(absent, again); why != "" {
		v.found(&v.Lost, "key %d: payment %s, known by %d at %s, %s", key, first.payment.id, first.code, first.ended,
			why)
	}
	if absent != "" && wasSent {
		v.found(&v.LostSent, "key %d: payment %s, known as sent at %s, %s", key, first.payment.id, sent.ended, absent)
	}
	return first.payment.id, true
}

// compareTopic compares the payments that clients know with what each witness read.
func (v *verdict) compareTopic(e evidence, known []uuid.UUID) {
	for _, read := range []map[uuid.UUID][]harness.Record{e.kcat, e.console} {
		var payments []journal.Payment
		var records []journal.Record
		for _, id := range known {
			if e.rows[id] || len(read[id]) > 0 { // A payment that was lost need not be in the topic.
				payments = append(payments, journal.Payment{ID: id, Sent: true})
			}
			for _, r := range read[id] {
				at := client.Position{Topic: harness.Topic, Partition: r.Partition, Offset: r.Offset}
				records = append(records, journal.Record{ID: id, Position: at})
			}
		}
		c := journal.Compare(payments, records)
		v.Twice, v.Missing = v.Twice+int(c.Duplicates.Count), v.Missing+int(c.Missing.Count)
		for _, found := range []journal.Findings{c.Duplicates, c.Missing} {
			v.Examples = append(v.Examples, found.First[:min(len(found.First), examplesMax)]...)
		}
	}
}

// earliest returns the response that was received first, of those that match.
func earliest(responses []response, match func(response) bool) (first response, ok bool) {
	for _, r := range responses {
		if match(r) && (!ok || r.ended < first.ended) {
			first, ok = r, true
		}
	}
	return first, ok
}

// byPayment groups records by payment.
func byPayment(records []harness.Record) map[uuid.UUID][]harness.Record {
	all := make(map[uuid.UUID][]harness.Record, len(records))
	for _, r := range records {
		all[r.ID] = append(all[r.ID], r)
	}
	return all
}

// unexpected counts the payments that are in the topic and not in the table.
func (e evidence) unexpected() (n int) {
	for id := range e.kcat {
		if !e.rows[id] {
			n++
		}
	}
	return n
}
