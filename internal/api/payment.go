package api

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/paylatch/paylatch/internal/payment"
)

// create answers POST /payments: 202 once the payment is committed, or once it is found that it had been.
func (s *Server) create(x *exchange) error {
	key, err := idempotencyKey(x.r.Header.Values("Idempotency-Key"))
	if err != nil {
		return err
	}
	content, faults, err := x.content()
	if err != nil {
		return err
	}
	p, err := payment.New(x.tenant, key, content)
	if err := allFaults(faults, err); err != nil {
		return err
	}
	p.TraceParent = payment.ParseTraceParent(x.r.Header.Get("Traceparent"))

	ctx, cancel := context.WithTimeout(x.Context(), workTimeout)
	defer cancel()
	stored, replayed, err := s.store.Create(ctx, p)
	if err != nil {
		return err
	}
	s.metrics.created(replayed)
	header := x.Header()
	header["Location"] = []string{"/payments/" + stored.ID.String()}
	header["Retry-After"] = retryAfterOne
	if replayed {
		header["Idempotent-Replayed"] = []string{"true"}
	}
	stored.Status, stored.Sent = payment.Created, nil // As the first answer showed it, which is what every replay shows, too.
	x.answerPayment(http.StatusAccepted, &stored)
	return nil
}

// find answers GET /payments/{id}. An id that is malformed is one that no payment has.
func (s *Server) find(x *exchange) error {
	id, err := payment.ParseID(lastSegment(x.r))
	if err != nil {
		return payment.ErrNotFound
	}
	return s.answerStatus(x, func(ctx context.Context) (payment.Payment, error) { return s.store.Find(ctx, x.tenant.TenantRef, id) })
}

// findByKey answers GET /payments?idempotency_key=K: the payment whose answer was lost.
func (s *Server) findByKey(x *exchange) error {
	query, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil || len(query) != 1 || len(query["idempotency_key"]) != 1 {
		return refuse("query_invalid", "the query must be idempotency_key=K and nothing else")
	}
	key, err := payment.ParseKey(query.Get("idempotency_key"))
	if err != nil {
		return refuse("idempotency_key_invalid", "%v", err)
	}
	id := payment.DeriveID(x.tenant.Salt, key)
	return s.answerStatus(x, func(ctx context.Context) (payment.Payment, error) {
		return s.store.FindDerived(ctx, x.tenant.TenantRef, id)
	})
}

// answerStatus answers the payment that find finds, after waiting for it to change if the client prefers that.
func (s *Server) answerStatus(x *exchange, find func(context.Context) (payment.Payment, error)) error {
	p, err := x.ask(find)
	if err != nil {
		return err
	}
	if wait := preferredWait(x.r.Header.Values("Prefer")); wait > 0 {
		if p, err = s.await(x, p, wait, find); err != nil {
			return err
		}
	}
	header := x.Header()
	if x.r.URL.Path == paymentsPath { // Found by its key: this is where it is.
		header["Content-Location"] = []string{paymentPrefix + p.ID.String()}
	}
	tag := etag(p)
	header["Etag"] = []string{tag}
	header["Cache-Control"] = privateNoCache
	header["Vary"] = varyByClient
	if p.Status == payment.Created {
		header["Retry-After"] = retryAfterOne
	}
	if known := x.r.Header.Values("If-None-Match"); len(known) > 0 && noneMatch(known, tag) {
		x.WriteHeader(http.StatusNotModified)
		return nil
	}
	x.answerPayment(http.StatusOK, &p)
	return nil
}

// ask asks the store one question, within workTimeout.
func (x *exchange) ask(find func(context.Context) (payment.Payment, error)) (payment.Payment, error) {
	ctx, cancel := context.WithTimeout(x.Context(), workTimeout)
	defer cancel()
	return find(ctx)
}

// idempotencyKey reads the one key that a create must have.
func idempotencyKey(values []string) (payment.Key, error) {
	switch len(values) {
	case 0:
		return payment.Key{}, refuse("idempotency_key_missing", "a create needs the header Idempotency-Key")
	case 1:
		key, err := payment.ParseKey(values[0])
		if err != nil {
			return payment.Key{}, refuse("idempotency_key_invalid", "%v", err)
		}
		return key, nil
	}
	return payment.Key{}, refuse("idempotency_key_invalid", "the request has %d headers Idempotency-Key", len(values))
}

// content reads the body. The faults are members of the wrong JSON type, to be told together with those that payment.New finds.
func (x *exchange) content() (payment.Content, []payment.Fault, error) {
	if !plainJSON(x.r.Header) {
		return payment.Content{}, nil, refuse("unsupported_media_type", "the body must be application/json in UTF-8, without a content coding")
	}
	if x.r.ContentLength > bodyMax { // Told before it is sent.
		return payment.Content{}, nil, refuse("body_too_large", "the body has more than %d bytes", bodyMax)
	}
	body := bytes.NewBuffer(make([]byte, 0, bodyUsual))
	_, err := body.ReadFrom(http.MaxBytesReader(x.w, x.r.Body, bodyMax))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return payment.Content{}, nil, refuse("body_too_large", "the body has more than %d bytes", bodyMax)
	}
	if err != nil { // A fault of the network or of a slow client: nothing is known about the body, so nothing is refused for good.
		return payment.Content{}, nil, refuse("request_timeout", "the body did not arrive whole within %s", readTimeout)
	}
	return decode(body.Bytes())
}

// bodyUsual is room for what nearly all bodies are, with the half a kilobyte that ReadFrom wants to see free; larger ones make room as they come.
const bodyUsual = 1024

// plainJSON tells whether a body is what its header must say: JSON in UTF-8 (RFC 8259 section 8.1), as it is.
func plainJSON(h http.Header) bool {
	if h.Get("Content-Type") == "application/json" && h.Get("Content-Encoding") == "" { // As nearly all write it.
		return true
	}
	mediaType, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, coding := parameters["charset"], h.Get("Content-Encoding")
	return err == nil && mediaType == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8")) &&
		(coding == "" || strings.EqualFold(coding, "identity"))
}

// allFaults joins the faults of the JSON types with those of the content: a member that has the wrong type is told once, as that.
func allFaults(faults []payment.Fault, err error) error {
	invalid, ok := errors.AsType[*payment.Invalid](err)
	if err != nil && !ok {
		return err
	}
	if ok {
		for _, f := range invalid.Faults {
			if !covered(faults, f.Pointer) {
				faults = append(faults, f)
			}
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return &payment.Invalid{Faults: faults}
}
