package payclient

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What a load sends and reads many thousand times. It shares its machine with what it measures, so that it encodes by hand, and decodes of an answer
// only what it needs. Create and Get speak the same contract with whole payments.

// appendRequest appends the payment as JSON. Text that is no UTF-8 is an error: it would arrive as other text.
func appendRequest(b []byte, r Request) ([]byte, error) {
	w := writer{b: b}
	w.b = strconv.AppendInt(append(w.b, `{"amount":`...), r.Amount, 10)
	w.text(`,"currency":`, r.Currency)
	w.text(`,"originator":{"id":`, r.Originator.ID)
	w.text(`,"name":`, r.Originator.Name)
	w.text(`},"beneficiary":{"id":`, r.Beneficiary.ID)
	w.text(`,"name":`, r.Beneficiary.Name)
	w.text(`},"sender":{"type":`, r.Sender.Type)
	w.text(`,"number":`, r.Sender.Number)
	w.text(`},"receiver":{"type":`, r.Receiver.Type)
	w.text(`,"number":`, r.Receiver.Number)
	if w.b = append(w.b, '}'); r.Reference != "" {
		w.text(`,"reference":`, r.Reference)
	}
	if w.err != nil {
		return nil, fmt.Errorf("encode the payment: %w", w.err)
	}
	return append(w.b, '}'), nil
}

// writer keeps the first error.
type writer struct {
	b   []byte
	err error
}

func (w *writer) text(before, value string) {
	b, err := jsontext.AppendQuote(append(w.b, before...), value)
	w.b = b
	if w.err == nil {
		w.err = err
	}
}

// state is what a load reads of a payment.
type state struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// decodeState reads no further than it must: the service writes id and status first. What begins otherwise is decoded as any JSON.
func decodeState(a answer) (state, error) {
	if id, status, ok := stateAhead(a.body); ok {
		return state{ID: id, Status: status}, nil
	}
	var s state
	if err := json.Unmarshal(a.body, &s); err != nil {
		return state{}, &strangeAnswerError{status: a.status, why: "its body is no payment: " + err.Error()}
	}
	if s.ID == "" || s.Status == "" {
		return state{}, &strangeAnswerError{status: a.status, why: "its body has no id or no status"}
	}
	return s, nil
}

// stateAhead finds id and status where they come first and are plain text. The body was read to the end that its length said.
func stateAhead(body []byte) (id, status string, ok bool) {
	const before, between = `{"id":"`, `","status":"`
	text := string(body[:min(len(body), aheadMax)])
	if id, ok = strings.CutPrefix(text, before); !ok {
		return "", "", false
	}
	if id, status, ok = strings.Cut(id, between); !ok {
		return "", "", false
	}
	status, _, ok = strings.Cut(status, `"`)
	return id, status, ok && id != "" && status != "" && !strings.ContainsAny(id+status, `"\\`)
}

// aheadMax holds both: an id has 36 characters, a status few.
const aheadMax = 96

// posted is what a load needs of the answer to a create.
type posted struct {
	id       string
	replayed bool
}

// post is Create for a body that is encoded already. With once it is sent a single time.
func (c *Client) post(ctx context.Context, key string, body []byte, once bool) (posted, trail, error) {
	got, t, err := c.call(ctx, exchange{method: http.MethodPost, path: "/payments", key: key, body: body, want: http.StatusAccepted, once: once})
	var s state
	if err == nil {
		s, err = decodeState(got)
		t.arrived = true
	}
	if err != nil {
		return posted{}, t, creationError(key, t, err)
	}
	return posted{id: s.ID, replayed: got.replayed()}, t, nil
}

// status is Get without a wait.
func (c *Client) status(ctx context.Context, id string, once bool) (trail, error) {
	got, t, err := c.call(ctx, exchange{method: http.MethodGet, path: "/payments/" + id, want: http.StatusOK, once: once})
	if err != nil {
		return t, fmt.Errorf("payment %s: %w", printable(id), err)
	}
	s, err := decodeState(got)
	if err == nil && s.ID != id {
		err = &strangeAnswerError{status: got.status, why: "it is about payment " + printable(s.ID) + " in the place of " + printable(id)}
	}
	return t, err
}
