package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// request is a kind of request that the load makes.
type request uint8

const (
	requestCreate   request = iota // POST; a retry and a replay look the same.
	requestConflict                // POST with a key that is known, and other content.
	requestByID                    // GET by the payment's id.
	requestByKey                   // GET by the idempotency key.
)

// call says what a request is about. It travels in the request's context to the recorder.
type call struct {
	key     int32 // Number of the payment within the load; unusedKey for a key that is never created.
	request request
	final   bool // A query of the verdict, after all faults.
}

// unusedKey marks a query for a key that no client ever creates.
const unusedKey = -1

type callKey struct{}

func withCall(ctx context.Context, c call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// response is one response of the service, as a client received it.
type response struct {
	call
	server       int8
	code         int16
	began, ended time.Duration // Since the load began: before the request, and after the whole body.
	payment      reported
}

// reported is what a response says about a payment.
type reported struct {
	id        uuid.UUID // Zero if the response names no payment.
	created   int64     // created_at in Unix microseconds; 0 if the response does not say.
	sent      bool
	partition int32 // Of a sent payment,
	offset    int64 // as is the offset.
}

// exists reports whether the response says that the payment is stored.
func (r response) exists() bool { return r.payment.id != uuid.Nil }

// bodyBytesMax bounds what is read of a response; a payment is below 8 KiB.
const bodyBytesMax = 64 << 10

// recorder keeps every response that the clients of one load received, also those that a client
// retried without showing them to its caller. It is the transport of those clients. Safe for
// concurrent use.
type recorder struct {
	began   time.Time
	servers map[string]int8 // By host:port.
	next    *http.Transport

	mu        sync.Mutex
	responses []response
	ids       map[int32]uuid.UUID // What the clients know, by key.
}

func newRecorder(servers map[string]int8) *recorder {
	return &recorder{
		began: time.Now(), servers: servers, ids: map[int32]uuid.UUID{},
		next: &http.Transport{MaxIdleConnsPerHost: inFlightMax, IdleConnTimeout: 30 * time.Second},
	}
}

// RoundTrip implements http.RoundTripper.
func (rec *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	c, _ := r.Context().Value(callKey{}).(call)
	began := time.Since(rec.began)
	res, err := rec.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, bodyBytesMax))
	_ = res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	rec.add(response{
		call: c, server: rec.servers[r.URL.Host], code: int16(res.StatusCode),
		began: began, ended: time.Since(rec.began), payment: decodeReported(res.StatusCode, body),
	})
	return res, nil
}

func (rec *recorder) add(r response) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.responses = append(rec.responses, r)
	if r.exists() && r.key != unusedKey {
		rec.ids[r.key] = r.payment.id
	}
}

// decodeReported reads what a body says about a payment. A 422 names it as payment_id.
func decodeReported(code int, body []byte) (t reported) {
	var b struct {
		ID        uuid.UUID `json:"id"`
		PaymentID uuid.UUID `json:"payment_id"`
		Status    any       `json:"status"` // A number in a problem.
		CreatedAt time.Time `json:"created_at"`
		Position  struct {
			Partition int32 `json:"partition"`
			Offset    int64 `json:"offset"`
		} `json:"position"`
	}
	if json.Unmarshal(body, &b) != nil {
		return reported{}
	}
	switch code {
	case http.StatusOK, http.StatusAccepted:
		t = reported{id: b.ID, created: b.CreatedAt.UnixMicro()}
		if b.Status != "created" {
			t.sent, t.partition, t.offset = true, b.Position.Partition, b.Position.Offset
		}
	case http.StatusUnprocessableEntity:
		t.id = b.PaymentID
	}
	return t
}

// known returns the id of a key, or the zero id.
func (rec *recorder) known(key int32) uuid.UUID {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.ids[key]
}

// count counts the responses that match.
func (rec *recorder) count(match func(response) bool) (n int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, r := range rec.responses {
		if match(r) {
			n++
		}
	}
	return n
}

// write writes the responses as comma-separated values.
func (rec *recorder) write(w io.Writer) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	_, _ = fmt.Fprintln(w, "key,request,final,replica,began_ns,ended_ns,code,payment,created_us,sent,partition,offset")
	for _, r := range rec.responses {
		p := r.payment
		_, _ = fmt.Fprintf(w, "%d,%d,%t,%d,%d,%d,%d,%s,%d,%t,%d,%d\n",
			r.key, r.request, r.final, r.server, r.began, r.ended, r.code, p.id, p.created, p.sent, p.partition,
			p.offset)
	}
}
