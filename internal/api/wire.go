package api

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/paylatch/paylatch/internal/payment"
)

// timeFormat is RFC 3339 in UTC with microseconds, the precision of PostgreSQL.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// createBody is the body of POST /payments. It keeps the JSON type of each member, so that all
// members of a wrong type are reported together with the other faults.
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

// leaf is a member that should be a string or a number.
type leaf struct {
	// kind is the JSON type that was sent, or 0 if the member is absent.
	kind jsontext.Kind
	// text is set for strings and numbers.
	text string
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *leaf) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	l.kind = dec.PeekKind()
	if l.kind != '"' && l.kind != '0' {
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
	// kind is the JSON type that was sent, or 0 if the member is absent.
	kind  jsontext.Kind
	value T
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (o *object[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	o.kind = dec.PeekKind()
	if o.kind != '{' {
		return dec.SkipValue()
	}
	return json.UnmarshalDecode(dec, &o.value)
}

// decode parses the body of a create strictly. Invalid JSON, an unknown member and a duplicate
// member are errors. Members of a wrong type are faults.
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
		Amount:      f.leaf("/amount", b.Amount, '0'),
		Currency:    f.leaf("/currency", b.Currency, '"'),
		Originator:  f.party("/originator", "/originator/id", "/originator/name", b.Originator),
		Beneficiary: f.party("/beneficiary", "/beneficiary/id", "/beneficiary/name", b.Beneficiary),
		Sender:      f.account("/sender", "/sender/type", "/sender/number", b.Sender),
		Receiver:    f.account("/receiver", "/receiver/type", "/receiver/number", b.Receiver),
	}
	reference := f.leaf("/reference", b.Reference, '"')
	if b.Reference.kind == '"' {
		c.Reference = &reference
	}
	return c, f, nil
}

// refuseJSON returns the problem for a body that cannot be decoded. It names the place.
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
		return refuse("unknown_member", "the API knows no member %q", truncate(string(pointer)))
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refuse("duplicate_member", "the member %q is given twice", truncate(string(pointer)))
	}
	return refuse("malformed_json", "the body is not valid JSON, at or after %q", truncate(string(pointer)))
}

// truncate shortens what a client sent, so that it fits into a response and a line of the log.
func truncate(s string) string {
	const bytesMax = 100
	if len(s) <= bytesMax {
		return s
	}
	return strings.ToValidUTF8(s[:bytesMax], "") + "…"
}

// typeFaults collects members of a wrong JSON type.
type typeFaults []payment.Fault

func (f *typeFaults) leaf(pointer string, l leaf, want jsontext.Kind) string {
	switch l.kind {
	case want:
		return l.text
	case 0: // Absent: payment.New decides whether it is required.
	default:
		f.add(pointer, want)
	}
	return ""
}

func (f *typeFaults) party(at, atID, atName string, o object[partyBody]) payment.PartyContent {
	f.object(at, o.kind)
	return payment.PartyContent{ID: f.leaf(atID, o.value.ID, '"'), Name: f.leaf(atName, o.value.Name, '"')}
}

func (f *typeFaults) account(at, atType, atNumber string, o object[accountBody]) payment.AccountContent {
	f.object(at, o.kind)
	return payment.AccountContent{
		Type:   f.leaf(atType, o.value.Type, '"'),
		Number: f.leaf(atNumber, o.value.Number, '"'),
	}
}

func (f *typeFaults) object(pointer string, kind jsontext.Kind) {
	if kind != '{' && kind != 0 {
		f.add(pointer, '{')
	}
}

func (f *typeFaults) add(pointer string, want jsontext.Kind) {
	*f = append(*f, payment.Fault{Pointer: pointer, Code: "type", Detail: "must be " + kindName(want)})
}

func kindName(kind jsontext.Kind) string {
	switch kind {
	case '0':
		return "a number"
	case '"':
		return "a string"
	}
	return "an object"
}

// reported reports whether faults has one of this member, or of the object that contains it.
func reported(faults []payment.Fault, pointer string) bool {
	for _, f := range faults {
		if f.Pointer == pointer || strings.HasPrefix(pointer, f.Pointer+"/") {
			return true
		}
	}
	return false
}

// appendPayment appends the JSON document of a payment, as all responses contain it. It is written
// by hand because nearly every response is one. It must agree with openapi.json, against which the
// tests check each response.
//
// The position is that of the shared topic: see Config.ShowPosition.
func appendPayment(b []byte, p *payment.Payment, showPosition bool) []byte {
	b = p.ID.Append(append(b, `{"id":"`...))
	b = append(b, `","status":"`...)
	b = append(b, p.Status...)
	b = append(b, `","final":`...)
	b = strconv.AppendBool(b, p.Status.IsFinal())
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
	b = appendTime(b, `,"created_at":"`, p.CreatedAt)
	if p.Emission != nil {
		b = appendTime(b, `,"sent_at":"`, p.Emission.At)
	}
	if p.Emission != nil && showPosition {
		b = appendText(b, `,"position":{"topic":`, p.Emission.Topic)
		b = append(b, `,"partition":`...)
		b = strconv.AppendInt(b, int64(p.Partition), 10)
		b = append(b, `,"offset":`...)
		b = append(strconv.AppendInt(b, p.Emission.Offset, 10), '}')
	}
	return append(b, '}')
}

func appendTime(b []byte, name string, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, name...), timeFormat), '"')
}

func appendPair(b []byte, first, a, second string, c payment.Private) []byte {
	return append(appendText(appendText(b, first, a), second, c.Reveal()), '}')
}

// appendText appends the name of a member and its value. Invalid UTF-8, which no stored text
// contains, is replaced.
func appendText(b []byte, name, text string) []byte {
	b, _ = jsontext.AppendQuote(append(b, name...), text)
	return b
}

// Values of header fields that many responses share. net/http only reads them.
var (
	contentTypeJSON    = []string{"application/json"}
	contentTypeProblem = []string{"application/problem+json"}
	nosniff            = []string{"nosniff"}
	retryAfterOne      = []string{"1"}
	noStore            = []string{"no-store"}
	connectionClose    = []string{"close"}
	varyByClient       = []string{"Authorization, Prefer"}
)

// writePayment writes a payment as the body of the response.
func (x *exchange) writePayment(status int, p *payment.Payment) {
	const bytesUsual = 768
	body := appendPayment(make([]byte, 0, bytesUsual), p, x.showPosition)
	x.writeBody(status, contentTypeJSON, append(body, '\n'))
}

// writeJSON writes v as the body of the response. v is a type of this package, made of strings and
// numbers, so it can always be marshalled.
func (x *exchange) writeJSON(status int, contentType []string, v any) {
	body, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err)
	}
	x.writeBody(status, contentType, append(body, '\n'))
}

// writeBody writes the whole response. It ignores errors: the client is gone, and what it requested
// is on record.
//
// The names of the header fields are written as http.Header stores them. Set would inspect each
// letter.
func (x *exchange) writeBody(status int, contentType []string, body []byte) {
	header := x.Header()
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(status)
	_, _ = x.Write(body)
}
