package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// create handles POST /payments. Once the payment is committed, or was found committed, the request
// cannot fail. The response is 200 if the client waits and the payment is sent by then. Otherwise
// it is 202.
func (s *Server) create(x *exchange) error {
	key, p, err := x.newPayment()
	invalid, isInvalid := errors.AsType[*payment.InvalidError](err)
	if err != nil && !isInvalid {
		return err
	}
	// The body may have taken until readTimeout to arrive.
	if err := s.recheck(x.Context(), x); err != nil {
		return err
	}
	if isInvalid {
		return s.unlessReused(x, key, invalid)
	}
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
			x.writeVersion(&sent, nil)
			return nil
		}
	}
	header := x.Header()
	header["Location"] = []string{paymentPrefix + stored.ID.String()}
	header["Cache-Control"] = noStore
	header["Retry-After"] = retryAfterOne
	// A replay shows what the first response showed, whatever the status is now.
	stored.Status, stored.Emission = payment.StatusCreated, nil
	x.writePayment(http.StatusAccepted, &stored)
	return nil
}

// newPayment reads the request to create a payment and validates it. With a *payment.InvalidError
// it returns the key as well.
func (x *exchange) newPayment() (payment.Key, payment.Payment, error) {
	key, err := idempotencyKey(x.r.Header.Values("Idempotency-Key"))
	if err != nil {
		return key, payment.Payment{}, err
	}
	content, faults, err := x.content()
	if err != nil {
		return key, payment.Payment{}, err
	}
	p, err := payment.New(x.tenant, key, content)
	err = joinFaults(faults, err)
	if err != nil {
		return key, payment.Payment{}, err
	}
	p.TraceParent = payment.ParseTraceParent(x.r.Header.Get("Traceparent"))
	return key, p, nil
}

// unlessReused returns the invalid error if the idempotency key is free, which that error says. The
// key may stand for a payment already: an earlier version took texts that this one refuses, and a
// client may repeat its request after an update.
func (s *Server) unlessReused(x *exchange, key payment.Key, invalid *payment.InvalidError) error {
	id := payment.DeriveID(x.tenant.Salt, key)
	_, err := s.find(x.Context(), x.tenant.TenantRef, statusQuery{id: id, derived: true})
	switch {
	case errors.Is(err, payment.ErrNotFound):
		return invalid
	case err != nil:
		return err
	}
	reused := &payment.KeyReusedError{ID: id}
	for _, f := range invalid.Faults {
		reused.Differs = append(reused.Differs, f.Pointer)
	}
	return reused
}

// awaitSent waits until the payment is sent, and reports whether it is. It returns no errors: the
// payment is committed, and the client can query its status. If the API key is revoked during the
// wait, or cannot be checked after it, the client learns what it had learned without a wait.
func (s *Server) awaitSent(x *exchange, stored payment.Payment, wait time.Duration) (sent payment.Payment, ok bool) {
	// A replay may be sent already. What Store.Create returns survives a failover.
	if stored.Status != payment.StatusCreated {
		return stored, true
	}
	if s.awaitChange(x, stored, nil, wait) != waitChanged {
		return payment.Payment{}, false
	}
	sent, err := s.find(x.Context(), x.tenant.TenantRef, statusQuery{id: stored.ID})
	if err != nil || s.recheck(x.Context(), x) != nil {
		return payment.Payment{}, false
	}
	return sent, sent.Status != payment.StatusCreated
}

// statusByID handles GET /payments/{id}. No payment has an id that is malformed.
func (s *Server) statusByID(x *exchange) error {
	id, err := payment.ParseID(lastSegment(x.r))
	if err != nil {
		return payment.ErrNotFound
	}
	return s.status(x, statusQuery{id: id})
}

// statusByKey handles GET /payments?idempotency_key=K, for a client that lost the response to its
// create.
func (s *Server) statusByKey(x *exchange) error {
	query, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil || len(query) != 1 || len(query["idempotency_key"]) != 1 {
		return refuse("query_invalid", "the query must be idempotency_key=K and nothing else")
	}
	key, err := payment.ParseKey(query.Get("idempotency_key"))
	if err != nil {
		return refuse("idempotency_key_invalid", "%v", err)
	}
	return s.status(x, statusQuery{id: payment.DeriveID(x.tenant.Salt, key), derived: true})
}

// statusQuery identifies a payment whose status a client asks for.
type statusQuery struct {
	id payment.ID
	// derived is set if the id was derived from an idempotency key of the tenant.
	derived bool
}

// find returns the payment, within workTimeout. Its result survives a failover.
func (s *Server) find(ctx context.Context, tenant payment.TenantRef, q statusQuery) (payment.Payment, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	if q.derived {
		return s.store.FindDerived(ctx, tenant, q.id)
	}
	return s.store.Find(ctx, tenant, q.id)
}

// look returns the payment, within workTimeout. A failover may undo its result, so it must not be
// reported to a client.
func (s *Server) look(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	return s.store.Look(ctx, tenant, id)
}

// status responds with the payment. If the client prefers to wait, it first waits until the payment
// changes.
func (s *Server) status(x *exchange, q statusQuery) error {
	known := x.r.Header.Values("If-None-Match")
	wait := preferredWait(x.r.Header.Values("Prefer"))
	waited := false
	if wait > 0 {
		p, err := s.look(x.Context(), x.tenant.TenantRef, q.id)
		if err == nil {
			waited = s.awaitChange(x, p, known, wait) != waitNotStarted
		}
	}
	p, err := s.find(x.Context(), x.tenant.TenantRef, q)
	if waited {
		// The key may have been revoked since. Then nothing is reported, not even that the find
		// failed.
		if err := s.recheck(x.Context(), x); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	header := x.Header()
	if waited {
		header["Preference-Applied"] = preferenceApplied(wait)
	}
	if q.derived { // The URL of the request is not the URL of the payment.
		header["Content-Location"] = []string{paymentPrefix + p.ID.String()}
	}
	x.writeVersion(&p, known)
	return nil
}

// writeVersion writes the payment with status 200. It writes 304 if the client knows this version.
func (x *exchange) writeVersion(p *payment.Payment, known []string) {
	tag := x.etag(p)
	header := x.Header()
	header["Etag"] = []string{tag}
	header["Cache-Control"] = noStore
	header["Vary"] = varyByClient
	if p.Status == payment.StatusCreated {
		header["Retry-After"] = retryAfterOne
	}
	if len(known) > 0 && anyMatch(known, tag) {
		x.WriteHeader(http.StatusNotModified)
		return
	}
	x.writePayment(http.StatusOK, p)
}

// idempotencyKey parses the header Idempotency-Key, which a create must have once.
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

// bodyBytesUsual is the initial capacity for a body. Nearly all bodies fit, with the 512 bytes that
// ReadFrom wants to be free. A larger body makes the buffer grow.
const bodyBytesUsual = 1024

// content reads the body. The faults are members of the wrong JSON type. They are reported together
// with those that payment.New finds.
//
// A body that does not arrive whole is the fault of the network or of a slow client. Nothing is
// known about it then, so the request may be repeated.
func (x *exchange) content() (payment.Content, []payment.Fault, error) {
	if !plainJSON(x.r.Header) {
		return payment.Content{}, nil, refuse("unsupported_media_type",
			"the body must be application/json in UTF-8, without a content coding")
	}
	if x.r.ContentLength > bodyBytesMax {
		return payment.Content{}, nil, refuse("body_too_large", "the body has more than %d bytes", bodyBytesMax)
	}
	x.bodyRead = true
	body := bytes.NewBuffer(make([]byte, 0, bodyBytesUsual))
	_, err := body.ReadFrom(http.MaxBytesReader(x.w, x.r.Body, bodyBytesMax))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return payment.Content{}, nil, refuse("body_too_large", "the body has more than %d bytes", bodyBytesMax)
	}
	switch {
	case isBrokenOff(err):
		return payment.Content{}, nil, refuse("request_timeout", "the body did not arrive whole within %s", readTimeout)
	case err != nil:
		return payment.Content{}, nil, refuse("malformed_json", "the chunks or the trailer of the body are malformed")
	}
	return decode(body.Bytes())
}

// isBrokenOff reports whether a body could not be read because the connection was too slow or
// ended. Any other error is one of the chunked coding, which another attempt will not mend.
// net/http has no type for the end of a connection before the trailer, and reports one within it as
// too long.
func isBrokenOff(err error) bool {
	if err == nil {
		return false
	}
	_, ofNetwork := errors.AsType[net.Error](err)
	return ofNetwork || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, net.ErrClosed) || strings.HasSuffix(err.Error(), "unexpected EOF reading trailer")
}

// plainJSON reports whether the header declares JSON in UTF-8 (RFC 8259 section 8.1) without a
// content coding.
func plainJSON(h http.Header) bool {
	// Nearly all clients write it this way; parsing allocates.
	if h.Get("Content-Type") == "application/json" && h.Get("Content-Encoding") == "" {
		return true
	}
	mediaType, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, coding := parameters["charset"], h.Get("Content-Encoding")
	return err == nil && mediaType == "application/json" &&
		(charset == "" || strings.EqualFold(charset, "utf-8")) &&
		(coding == "" || strings.EqualFold(coding, "identity"))
}

// joinFaults joins the faults of JSON types with the error of payment.New. A member of the wrong
// type is reported once, as that.
func joinFaults(faults []payment.Fault, err error) error {
	invalid, ok := errors.AsType[*payment.InvalidError](err)
	if err != nil && !ok {
		return err
	}
	if ok {
		for _, f := range invalid.Faults {
			if !reported(faults, f.Pointer) {
				faults = append(faults, f)
			}
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return &payment.InvalidError{Faults: faults}
}
