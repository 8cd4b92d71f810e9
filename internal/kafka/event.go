package kafka

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/payment"
)

// EventBytesMax bounds an event: key, value and headers together. The bounds of package payment
// keep every event below it.
const EventBytesMax = 8 << 10

// eventType is the CloudEvents type. It contains the version: a change that old consumers cannot
// read needs a new type.
const eventType = "paylatch.payment.created.v1"

// timeFormat is RFC 3339 in UTC with microseconds, the precision of PostgreSQL.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// Event is a payment as consumers see it: a Kafka record without its position.
type Event struct {
	// Key is the id of the payment, in its form of 36 characters.
	Key []byte
	// Value is JSON; see body.
	Value   []byte
	Headers []Header
}

// Header is a record header.
type Header = kgo.RecordHeader

// size returns an upper bound for the bytes of the event in a record batch (message format v2 of
// KIP-98, in which lengths are varints of a few bytes).
func (e Event) size() int {
	const overhead, headerOverhead = 32, 10
	n := overhead + len(e.Key) + len(e.Value)
	for _, h := range e.Headers {
		n += headerOverhead + len(h.Key) + len(h.Value)
	}
	return n
}

// body is the JSON of an event. Together with the headers it contains all that the row of the
// payment contains, so that a row that a restored database has lost can be restored from the log.
// It does not repeat the partition and the offset.
type body struct {
	ID          string  `json:"id"`
	Tenant      string  `json:"tenant"`
	Seq         int64   `json:"seq"`
	Amount      int64   `json:"amount"`
	Currency    string  `json:"currency"`
	Originator  party   `json:"originator"`
	Beneficiary party   `json:"beneficiary"`
	Sender      account `json:"sender"`
	Receiver    account `json:"receiver"`
	Reference   string  `json:"reference,omitzero"`
	CreatedAt   string  `json:"created_at"`
}

type party struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type account struct {
	Type   string `json:"type"`
	Number string `json:"number"`
}

// Encoder encodes payments as events. It is safe for concurrent use.
type Encoder struct {
	// source is the CloudEvents source. It identifies the installation.
	source []byte
}

// NewEncoder returns an encoder for an installation. source is a URI reference (CloudEvents 1.0,
// "source").
func NewEncoder(source string) Encoder { return Encoder{[]byte(source)} }

// Header values that all events share. They must not be modified.
var specVersion, typeOfEvent, contentType = []byte("1.0"), []byte(eventType), []byte("application/json")

// eventBytesUsual is the initial capacity for an event. Nearly all events fit. A larger one grows
// it.
const eventBytesUsual = 640

// Encode returns the event of a payment: CloudEvents 1.0 in the binary content mode for Kafka
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
// section 3.2). The same payment always gives the same event. An event larger than EventBytesMax,
// and text that is not UTF-8, are errors: they violate the rules of package payment.
//
// All bytes of an event are in one allocation, and the JSON is written by hand, since encoding is a
// fifth of a sender's work. The golden test and Decode define the result.
func (e Encoder) Encode(p payment.Payment) (Event, error) {
	w := writer{b: make([]byte, 0, eventBytesUsual)}
	subject := w.piece(func() { w.b = p.ID.Append(append(w.b, "payments/"...)) })
	id := subject[len("payments/"):]
	createdAt := w.piece(func() { w.b = p.CreatedAt.UTC().AppendFormat(w.b, timeFormat) })
	tenant := w.piece(func() { w.b = append(w.b, p.Tenant.Name...) })
	seq := w.piece(func() { w.b = strconv.AppendInt(w.b, p.Seq, 10) })
	value := w.piece(func() { w.body(id, createdAt, seq, &p) })
	if w.err != nil {
		return Event{}, fmt.Errorf("payment %s: event: %w", id, w.err)
	}
	const headersMax = 10 // With traceparent.
	event := Event{Key: id, Value: value, Headers: append(make([]Header, 0, headersMax),
		Header{Key: "ce_specversion", Value: specVersion},
		Header{Key: "ce_id", Value: id},
		Header{Key: "ce_type", Value: typeOfEvent},
		Header{Key: "ce_source", Value: e.source},
		Header{Key: "ce_time", Value: createdAt},
		Header{Key: "ce_subject", Value: subject},
		Header{Key: "content-type", Value: contentType},
		Header{Key: "tenant", Value: tenant},
		Header{Key: "seq", Value: seq},
	)}
	if p.TraceParent != "" {
		event.Headers = append(event.Headers, Header{Key: "traceparent", Value: []byte(p.TraceParent)})
	}
	if size := event.size(); size > EventBytesMax {
		return Event{}, fmt.Errorf("payment %s: event of %d bytes, more than %d", id, size, EventBytesMax)
	}
	return event, nil
}

// writer appends to one buffer.
type writer struct {
	b []byte
	// err is the first error. The content is invalid after it.
	err error
}

// piece returns what write appends. It stays valid if the buffer grows.
func (w *writer) piece(write func()) []byte {
	from := len(w.b)
	write()
	return w.b[from:len(w.b):len(w.b)]
}

// body appends the members of the type body, in their order.
func (w *writer) body(id, createdAt, seq []byte, p *payment.Payment) {
	w.raw(`{"id":"`, id)
	w.text(`","tenant":`, p.Tenant.Name)
	w.raw(`,"seq":`, seq)
	w.b = strconv.AppendInt(append(w.b, `,"amount":`...), p.Money.Minor, 10)
	w.text(`,"currency":`, p.Money.Currency)
	w.text(`,"originator":{"id":`, p.Originator.ID)
	w.text(`,"name":`, p.Originator.Name.Reveal())
	w.text(`},"beneficiary":{"id":`, p.Beneficiary.ID)
	w.text(`,"name":`, p.Beneficiary.Name.Reveal())
	w.text(`},"sender":{"type":`, p.Sender.Type)
	w.text(`,"number":`, p.Sender.Number.Reveal())
	w.text(`},"receiver":{"type":`, p.Receiver.Type)
	w.text(`,"number":`, p.Receiver.Number.Reveal())
	w.raw(`}`, nil)
	if p.Reference != "" {
		w.text(`,"reference":`, p.Reference)
	}
	w.raw(`,"created_at":"`, createdAt)
	w.raw(`"}`, nil)
}

func (w *writer) raw(before string, value []byte) { w.b = append(append(w.b, before...), value...) }

func (w *writer) text(before, value string) {
	var err error
	w.b, err = jsontext.AppendQuote(append(w.b, before...), value)
	if w.err == nil {
		w.err = err
	}
}

// Decode returns the payment of an event. It is the inverse of Encode, but does not set the
// partition and the offset, which are those of the record, nor the tenant's ID, which the database
// has. It returns an error if the event is not one that Encode makes. Errors contain no personal
// data.
func Decode(e Event) (payment.Payment, error) {
	headers := map[string]string{}
	for _, h := range e.Headers {
		headers[h.Key] = string(h.Value)
	}
	var b body
	if headers["ce_type"] != eventType {
		return payment.Payment{}, fmt.Errorf("not an event of ours: its ce_type is %.100q", headers["ce_type"])
	}
	if err := json.Unmarshal(e.Value, &b, json.RejectUnknownMembers(true)); err != nil {
		// err is dropped: it may contain a name.
		return payment.Payment{}, errors.New("not an event of ours: its value is not the JSON of one")
	}
	id, err := payment.ParseID(b.ID)
	if err != nil || b.ID != string(e.Key) || b.ID != headers["ce_id"] {
		return payment.Payment{}, fmt.Errorf("not an event of ours: id %.50q, key %.50q, ce_id %.50q",
			b.ID, e.Key, headers["ce_id"])
	}
	createdAt, err := time.Parse(timeFormat, b.CreatedAt)
	if err != nil {
		return payment.Payment{}, fmt.Errorf("not an event of ours: created_at: %w", err)
	}
	p := payment.Payment{
		ID: id, Tenant: payment.TenantRef{Name: b.Tenant},
		Money:       payment.Money{Minor: b.Amount, Currency: b.Currency},
		Originator:  payment.Party{ID: b.Originator.ID, Name: payment.Private(b.Originator.Name)},
		Beneficiary: payment.Party{ID: b.Beneficiary.ID, Name: payment.Private(b.Beneficiary.Name)},
		Sender:      payment.Account{Type: b.Sender.Type, Number: payment.Private(b.Sender.Number)},
		Receiver:    payment.Account{Type: b.Receiver.Type, Number: payment.Private(b.Receiver.Number)},
		Reference:   b.Reference, TraceParent: payment.ParseTraceParent(headers["traceparent"]),
		Seq: b.Seq, CreatedAt: createdAt,
	}
	p.PartitionHash = payment.HashSender(b.Tenant, p.Sender)
	return p, nil
}

// Fit returns how many of the first events fit into one batch of BatchBytesMax. It returns at least
// 1 if there are events.
func Fit(events []Event) int {
	size := 0
	for i, e := range events {
		size += e.size()
		if size > BatchBytesMax && i > 0 {
			return i
		}
	}
	return len(events)
}
