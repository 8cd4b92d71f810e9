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

// EventMax is the largest event in bytes, key, value and headers together. The bounds of package payment keep every event below it.
const EventMax = 8 << 10

// eventType is the CloudEvents type. The version is in the name: a change that old consumers cannot read makes a new type.
const eventType = "paylatch.payment.created.v1"

// timeFormat is RFC 3339 in UTC with the microseconds that PostgreSQL keeps.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// Event is one Kafka record: the payment as consumers see it.
type Event struct {
	Key     []byte // The payment's id in its 36-character form.
	Value   []byte // JSON.
	Headers []Header
}

// Header is a record header.
type Header = kgo.RecordHeader

// size bounds what the event takes in a record batch (KIP-98 message format v2: varint lengths, so a few bytes each).
func (e Event) size() int {
	const overhead, headerOverhead = 32, 10
	n := overhead + len(e.Key) + len(e.Value)
	for _, h := range e.Headers {
		n += headerOverhead + len(h.Key) + len(h.Value)
	}
	return n
}

// body is the JSON of an event. With the headers it holds all that the payment's row holds, so that a row lost with its database can be
// put back from the log. What the log itself knows (partition, offset) is not repeated.
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

// Encoder makes events of payments.
type Encoder struct {
	source []byte // The CloudEvents source: which installation speaks.
}

// NewEncoder returns an encoder for an installation that calls itself source, a URI reference (CloudEvents 1.0, "source").
func NewEncoder(source string) Encoder { return Encoder{[]byte(source)} }

// What every event says alike. Nobody writes into an event.
var specVersion, typeOfEvent, contentType = []byte("1.0"), []byte(eventType), []byte("application/json")

// eventUsual is room for what nearly all events are; larger ones make room as they come.
const eventUsual = 640

// Encode makes a payment's event: CloudEvents 1.0 in Kafka's binary content mode
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md section 3.2). The same payment always makes the
// same event. An event over EventMax, or a text that is not UTF-8, is an error: a rule of package payment was broken.
//
// All of an event's bytes lie in one piece of memory, and the JSON is written by hand: this is a fifth of what a sender does. The golden test and Decode say what it must be.
func (e Encoder) Encode(p payment.Payment) (Event, error) {
	w := writer{b: make([]byte, 0, eventUsual)}
	subject := w.piece(func() { w.b = p.ID.Append(append(w.b, "payments/"...)) })
	id := subject[len("payments/"):]
	createdAt := w.piece(func() { w.b = p.CreatedAt.UTC().AppendFormat(w.b, timeFormat) })
	tenant := w.piece(func() { w.b = append(w.b, p.Tenant.Name...) })
	seq := w.piece(func() { w.b = strconv.AppendInt(w.b, p.Seq, 10) })
	value := w.piece(func() { w.body(id, createdAt, seq, &p) })
	if w.err != nil {
		return Event{}, fmt.Errorf("payment %s: event: %w", id, w.err)
	}
	event := Event{Key: id, Value: value, Headers: append(make([]Header, 0, 10), // With room for the trace.
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
	if size := event.size(); size > EventMax {
		return Event{}, fmt.Errorf("payment %s: event of %d bytes, more than %d", id, size, EventMax)
	}
	return event, nil
}

// writer appends to one piece of memory.
type writer struct {
	b   []byte
	err error // The first; what is written after it is worth nothing.
}

// piece returns what write appends. It stays as it is when the writer moves to more room.
func (w *writer) piece(write func()) []byte {
	from := len(w.b)
	write()
	return w.b[from:len(w.b):len(w.b)]
}

// body writes the members of body, in their order.
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
	if w.b, err = jsontext.AppendQuote(append(w.b, before...), value); w.err == nil {
		w.err = err
	}
}

// Decode makes the payment of an event: what Encode was given, but for the partition and the offset, which the log knows, and the tenant's number, which the
// database knows. What is not an event of ours, or not whole, is an error.
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
		return payment.Payment{}, errors.New("not an event of ours: its value is not the JSON of one") // The error itself may hold a name.
	}
	id, err := payment.ParseID(b.ID)
	if err != nil || b.ID != string(e.Key) || b.ID != headers["ce_id"] {
		return payment.Payment{}, fmt.Errorf("not an event of ours: id %.50q, key %.50q, ce_id %.50q", b.ID, e.Key, headers["ce_id"])
	}
	createdAt, err := time.Parse(timeFormat, b.CreatedAt)
	if err != nil {
		return payment.Payment{}, fmt.Errorf("not an event of ours: created_at: %w", err)
	}
	p := payment.Payment{
		ID: id, Tenant: payment.TenantRef{Name: b.Tenant}, Money: payment.Money{Minor: b.Amount, Currency: b.Currency},
		Originator:  payment.Party{ID: b.Originator.ID, Name: payment.Private(b.Originator.Name)},
		Beneficiary: payment.Party{ID: b.Beneficiary.ID, Name: payment.Private(b.Beneficiary.Name)},
		Sender:      payment.Account{Type: b.Sender.Type, Number: payment.Private(b.Sender.Number)},
		Receiver:    payment.Account{Type: b.Receiver.Type, Number: payment.Private(b.Receiver.Number)},
		Reference:   b.Reference, TraceParent: payment.ParseTraceParent(headers["traceparent"]), Seq: b.Seq, CreatedAt: createdAt,
	}
	p.PartitionHash = payment.HashSender(b.Tenant, p.Sender)
	return p, nil
}

// Fit returns how many of the events, from the first, go into one batch of BatchBytesMax; at least one when there is any.
func Fit(events []Event) int {
	size := 0
	for i, e := range events {
		if size += e.size(); size > BatchBytesMax && i > 0 {
			return i
		}
	}
	return len(events)
}
