package api

import (
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/paylatch/paylatch/internal/payment"
)

// timeFormat is RFC 3339 in UTC with the microseconds that PostgreSQL keeps.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// createBody is the body of POST /payments. Members keep their JSON type, so that one of the wrong type is a fault beside the others.
type createBody struct {
	Amount      leaf                `json:"amount"`
	Currency    leaf                `json:"currency"`
	Originator  object[partyBody]   `json:"originator"`
	Beneficiary object[partyBody]   `json:"beneficiary"`
	Sender      object[accountBody] `json:"sender"`
	Receiver    object[accountBody] `json:"receiver"`
	Reference   leaf                `json:"reference"`
}

type partyBody struct {
	ID   leaf `json:"id"`
	Name leaf `json:"name"`
}

type accountBody struct {
	Type   leaf `json:"type"`
	Number leaf `json:"number"`
}

// leaf is a member that should be a string or a number: its kind as it came, its text when it was one of these.
type leaf struct {
	kind jsontext.Kind // 0 when the member is absent.
	text string
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *leaf) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if l.kind = dec.PeekKind(); l.kind != '"' && l.kind != '0' {
		return dec.SkipValue()
	}
	token, err := dec.ReadToken()
	if err == nil {
		l.text = token.String()
	}
	return err
}

// object is a member that should be an object.
type object[T any] struct {
	kind  jsontext.Kind // 0 when the member is absent.
	value T
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (o *object[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if o.kind = dec.PeekKind(); o.kind != '{' {
		return dec.SkipValue()
	}
	return json.UnmarshalDecode(dec, &o.value)
}

// decode reads a create's body strictly: not JSON, an unknown member and a duplicate one are errors; wrong types are faults.
func decode(data []byte) (payment.Content, []payment.Fault, error) {
	if kind := jsontext.Value(data).Kind(); kind != '{' {
		return payment.Content{}, nil, refuse("malformed_json", "the body must be a JSON object")
	}
	var b createBody
	if err := json.Unmarshal(data, &b, json.RejectUnknownMembers(true)); err != nil {
		return payment.Content{}, nil, refuseJSON(err)
	}
	var f typeFaults
	c := payment.Content{
		Amount: f.leaf("/amount", b.Amount, '0'), Currency: f.leaf("/currency", b.Currency, '"'),
		Originator: f.party("/originator", "/originator/id", "/originator/name", b.Originator), Beneficiary: f.party("/beneficiary", "/beneficiary/id", "/beneficiary/name", b.Beneficiary),
		Sender: f.account("/sender", "/sender/type", "/sender/number", b.Sender), Receiver: f.account("/receiver", "/receiver/type", "/receiver/number", b.Receiver),
	}
	if reference := f.leaf("/reference", b.Reference, '"'); b.Reference.kind == '"' {
		c.Reference = &reference
	}
	return c, f, nil
}

// refuseJSON says what is wrong with a body that is not the JSON we read, and where.
func refuseJSON(err error) error {
	var pointer jsontext.Pointer
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		pointer = semantic.JSONPointer
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		pointer = syntactic.JSONPointer
	}
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return refuse("unknown_member", "the API knows no member %q", bounded(string(pointer)))
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refuse("duplicate_member", "the member %q is given twice", bounded(string(pointer)))
	}
	return refuse("malformed_json", "the body is not valid JSON, at or after %q", bounded(string(pointer)))
}

// bounded cuts what a client sent to a length that an answer and a log line can bear.
func bounded(s string) string {
	const pointerMax = 100
	if len(s) <= pointerMax {
		return s
	}
	return strings.ToValidUTF8(s[:pointerMax], "") + "…"
}

// typeFaults gathers members of the wrong JSON type.
type typeFaults []payment.Fault

func (f *typeFaults) leaf(pointer string, l leaf, want jsontext.Kind) string {
	if l.kind == 0 { // Absent: payment.New says whether it may be.
		return ""
	}
	if l.kind != want {
		f.add(pointer, want)
		return ""
	}
	return l.text
}

func (f *typeFaults) party(at, atID, atName string, o object[partyBody]) payment.PartyContent {
	f.object(at, o.kind)
	return payment.PartyContent{ID: f.leaf(atID, o.value.ID, '"'), Name: f.leaf(atName, o.value.Name, '"')}
}

func (f *typeFaults) account(at, atType, atNumber string, o object[accountBody]) payment.AccountContent {
	f.object(at, o.kind)
	return payment.AccountContent{Type: f.leaf(atType, o.value.Type, '"'), Number: f.leaf(atNumber, o.value.Number, '"')}
}

func (f *typeFaults) object(pointer string, kind jsontext.Kind) {
	if kind != '{' && kind != 0 {
		f.add(pointer, '{')
	}
}

func (f *typeFaults) add(pointer string, want jsontext.Kind) {
	name := map[jsontext.Kind]string{'0': "a number", '"': "a string", '{': "an object"}[want]
	*f = append(*f, payment.Fault{Pointer: pointer, Code: "type", Detail: "must be " + name})
}

// covered tells whether a fault is told already, of the member or of the object it is in.
func covered(faults []payment.Fault, pointer string) bool {
	for _, f := range faults {
		if f.Pointer == pointer || strings.HasPrefix(pointer, f.Pointer+"/") {
			return true
		}
	}
	return false
}

// appendPayment writes a payment as every answer shows it. It is written by hand, being what nearly every answer is; openapi.json is what it must agree with, and the tests hold
// each answer against that.
func appendPayment(b []byte, p *payment.Payment) []byte {
	b = p.ID.Append(append(b, `{"id":"`...))
	b = append(b, `","status":"`...)
	b = append(b, p.Status...)
	b = append(b, `","final":`...)
	b = strconv.AppendBool(b, p.Status.Final())
	b = append(b, `,"amount":`...)
	b = strconv.AppendInt(b, p.Money.Minor, 10)
	b = appendText(b, `,"currency":`, p.Money.Currency)
	b = appendPair(b, `,"originator":{"id":`, p.Originator.ID, `,"name":`, p.Originator.Name)
	b = appendPair(b, `,"beneficiary":{"id":`, p.Beneficiary.ID, `,"name":`, p.Beneficiary.Name)
	b = appendPair(b, `,"sender":{"type":`, p.Sender.Type, `,"number":`, p.Sender.Number)
	b = appendPair(b, `,"receiver":{"type":`, p.Receiver.Type, `,"number":`, p.Receiver.Number)
	if p.Reference != "" {
		b = appendText(b, `,"reference":`, p.Reference)
	}
	b = append(b, `,"created_at":"`...)
	b = append(p.CreatedAt.UTC().AppendFormat(b, timeFormat), '"')
	if p.Sent != nil {
		b = append(b, `,"sent_at":"`...)
		b = append(p.Sent.At.UTC().AppendFormat(b, timeFormat), '"')
		b = appendText(b, `,"position":{"topic":`, p.Sent.Topic)
		b = append(b, `,"partition":`...)
		b = strconv.AppendInt(b, int64(p.Partition), 10)
		b = append(b, `,"offset":`...)
		b = append(strconv.AppendInt(b, p.Sent.Offset, 10), '}')
	}
	return append(b, '}')
}

func appendPair(b []byte, first, a, second string, c payment.Private) []byte {
	return append(appendText(appendText(b, first, a), second, c.Reveal()), '}')
}

// appendText writes a member's name and text. What is not UTF-8 any more, which no stored text is, is replaced.
func appendText(b []byte, name, text string) []byte {
	b, _ = jsontext.AppendQuote(append(b, name...), text)
	return b
}

// etag names the version of a payment: its content never changes, so its status and position are the whole difference.
func etag(p payment.Payment) string {
	if p.Sent == nil {
		return `"` + string(p.Status) + `"`
	}
	return `"` + string(p.Status) + "-" + strconv.FormatInt(p.Sent.Offset, 10) + "-" + strconv.FormatInt(p.Sent.At.UnixMicro(), 36) + `"`
}

// Values of header fields that many answers share: net/http reads them only.
var (
	contentTypeJSON    = []string{"application/json"}
	contentTypeProblem = []string{"application/problem+json"}
	nosniff            = []string{"nosniff"}
	retryAfterOne      = []string{"1"}
	privateNoCache     = []string{"private, no-cache"}
	connectionClose    = []string{"close"}
	varyByClient       = []string{"Authorization, Prefer"}
)

// answerPayment writes a payment as the whole answer.
func (x *exchange) answerPayment(status int, p *payment.Payment) {
	x.answer(status, contentTypeJSON, appendPayment(make([]byte, 0, 768), p))
}

// answerJSON writes v as the whole answer.
func (x *exchange) answerJSON(status int, contentType []string, v any) {
	body, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // Our own types, of strings and numbers, always marshal.
	}
	x.answer(status, contentType, body)
}

func (x *exchange) answer(status int, contentType []string, body []byte) {
	header := x.Header() // Names are written as http.Header spells them, past Set, which would look at each letter.
	header["Content-Type"] = contentType
	header["X-Content-Type-Options"] = nosniff
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(status)
	_, _ = x.Write(body) // The client is gone; what it asked for is on record.
}
