package api

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// create answers POST /payments. Once the payment is committed, or was found committed, nothing
// makes it fail: it is answered 200 if the client waits and the payment is sent by then, and 202
// otherwise.
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
	if replayed {
		x.Header()["Idempotent-Replayed"] = []string{"true"}
	}
	if wait := preferredWait(x.r.Header.Values("Prefer")); wait > 0 {
		if sent, ok := s.awaitSent(x, stored, wait); ok {
			header := x.Header()
			header["Content-Location"] = []string{paymentPrefix + sent.ID.String()}
			header["Preference-Applied"] = preferenceApplied(wait)
			x.answerVersion(&sent, nil)
			return nil
		}
	}
	header := x.Header()
	header["Location"] = []string{paymentPrefix + stored.ID.String()}
	header["Retry-After"] = retryAfterOne
	stored.Status, stored.Sent = payment.Created, nil // As the first answer showed it, which is what every replay shows, too.
	x.answerPayment(http.StatusAccepted, &stored)
	return nil
}

// awaitSent holds the response to a create until the payment is sent, and reports whether it is. It
// swallows errors: the payment is committed, and whether it was sent in the meantime, the client
// can find out.
func (s *Server) awaitSent(x *exchange, stored payment.Payment, wait time.Duration) (sent payment.Payment, ok bool) {
	if stored.Status != payment.Created { // A replay. Store.Create returns only what survives.
		return stored, true
	}
	if s.hold(x, stored, nil, wait) != waitChanged {
		return payment.Payment{}, false
	}
	sent, err := look(x.Context(), s.store.Find, x.tenant.TenantRef, stored.ID)
	return sent, err == nil && sent.Status != payment.Created
}

// find answers GET /payments/{id}. An id that is malformed is one that no payment has.
func (s *Server) find(x *exchange) error {
	id, err := payment.ParseID(lastSegment(x.r))
	if err != nil {
		return payment.ErrNotFound
	}
	return s.answerStatus(x, id, s.store.Find)
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
	return s.answerStatus(x, payment.DeriveID(x.tenant.Salt, key), s.store.FindDerived)
}

// lookup is one of the Store's methods that return a payment by its id.
type lookup func(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error)

// look calls a lookup within workTimeout.
func look(ctx context.Context, by lookup, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	return by(ctx, tenant, id)
}

// answerStatus answers with the payment that find returns. If the client prefers to wait, it first
// holds the response until the payment changes.
func (s *Server) answerStatus(x *exchange, id payment.ID, find lookup) error {
	known := x.r.Header.Values("If-None-Match")
	wait, held := preferredWait(x.r.Header.Values("Prefer")), false
	if wait > 0 {
		if p, err := look(x.Context(), s.store.Look, x.tenant.TenantRef, id); err == nil {
			held = s.hold(x, p, known, wait) != waitNoPlace
		}
	}
	p, err := look(x.Context(), find, x.tenant.TenantRef, id)
	if err != nil {
		return err
	}
	header := x.Header()
	if held {
		header["Preference-Applied"] = preferenceApplied(wait)
	}
	if x.r.URL.Path == paymentsPath { // Found by its key: this is where it is.
		header["Content-Location"] = []string{paymentPrefix + p.ID.String()}
	}
	x.answerVersion(&p, known)
	return nil
}

// answerVersion answers 200 with the payment as it stands, or 304 if that is one of the versions
// known.
func (x *exchange) answerVersion(p *payment.Payment, known []string) {
	tag := etag(*p)
	header := x.Header()
	header["Etag"] = []string{tag}
	header["Cache-Control"] = privateNoCache
	header["Vary"] = varyByClient
	if p.Status == payment.Created {
		header["Retry-After"] = retryAfterOne
	}
	if len(known) > 0 && noneMatch(known, tag) {
		x.WriteHeader(http.StatusNotModified)
		return
	}
	x.answerPayment(http.StatusOK, p)
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
