package api

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestCreate_Refused checks the requests that are refused before the payment is validated.
func TestCreate_Refused(t *testing.T) {
	t.Parallel()
	server, _ := newTestServer(t)
	with := func(member string) string { return `{` + member + `, ` + sampleBody[1:] }
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	const latin1 = "application/json; charset=latin1"
	for name, row := range map[string]struct {
		body    string
		headers []string
		code    string
		detail  string
	}{
		"Empty":             {"", nil, "malformed_json", ""},
		"Null":              {"null", nil, "malformed_json", "object"},
		"Array":             {"[]", nil, "malformed_json", "object"},
		"Truncated":         {sampleBody[:len(sampleBody)-1], nil, "malformed_json", ""},
		"Trailing":          {sampleBody + "{}", nil, "malformed_json", ""},
		"InvalidUTF8":       {with("\"reference\": \"\xff\""), nil, "malformed_json", ""},
		"LoneSurrogate":     {with(`"reference": "\ud800"`), nil, "malformed_json", ""},
		"UnknownMember":     {with(`"colour": 1`), nil, "unknown_member", "/colour"},
		"UnknownInside":     {`{"sender": {"bic": "X"}}`, nil, "unknown_member", "/sender/bic"},
		"OtherCase":         {with(`"Amount": 1`), nil, "unknown_member", "/Amount"},
		"LongName":          {with(`"` + strings.Repeat("x", 500) + `": 1`), nil, "unknown_member", "xxx…"},
		"Duplicate":         {with(`"amount": 1`), nil, "duplicate_member", "/amount"},
		"DuplicateInside":   {`{"sender": {"type": "a", "type": "b"}}`, nil, "duplicate_member", "/sender/type"},
		"TooDeep":           {`{"amount": ` + deep + `}`, nil, "malformed_json", ""},
		"KeyMissing":        {sampleBody, []string{"Idempotency-Key", ""}, "idempotency_key_missing", ""},
		"KeyInvalid":        {sampleBody, []string{"Idempotency-Key", "a b"}, "idempotency_key_invalid", "255"},
		"NoType":            {sampleBody, []string{"Content-Type", ""}, "unsupported_media_type", ""},
		"OtherType":         {sampleBody, []string{"Content-Type", "text/plain"}, "unsupported_media_type", ""},
		"OtherCharset":      {sampleBody, []string{"Content-Type", latin1}, "unsupported_media_type", ""},
		"Compressed":        {sampleBody, []string{"Content-Encoding", "gzip"}, "unsupported_media_type", ""},
		"LongerThanAllowed": {strings.Repeat(" ", bodyBytesMax) + "{}", nil, "body_too_large", "65536"},
	} {
		t.Run(name, func(t *testing.T) {
			p := wantProblem(t, do(t, server, http.MethodPost, "/payments", row.body, row.headers...), row.code)
			if !strings.Contains(p.Detail, row.detail) {
				t.Errorf("got detail %q, want %q in it", p.Detail, row.detail)
			}
		})
	}
	for _, contentType := range []string{"application/json; charset=UTF-8", "Application/JSON"} {
		w := do(t, server, http.MethodPost, "/payments", sampleBody,
			"Content-Type", contentType, "Content-Encoding", "identity")
		if w.Code != http.StatusAccepted {
			t.Errorf("Content-Type %s: got status %d, want 202", contentType, w.Code)
		}
	}
}

// TestCreate_Body: a body of unknown length is read up to the limit. One that breaks off is not
// refused for good.
func TestCreate_Body(t *testing.T) {
	t.Parallel()
	server, _ := newTestServer(t)
	send := func(r *http.Request) *httptest.ResponseRecorder {
		r.ContentLength = -1
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		return w
	}
	padding := strings.Repeat(" ", bodyBytesMax-len(sampleBody))
	if w := send(request(t, http.MethodPost, "/payments", padding+sampleBody)); w.Code != http.StatusAccepted {
		t.Errorf("a body of %d bytes: got status %d, want 202", bodyBytesMax, w.Code)
	}
	wantProblem(t, send(request(t, http.MethodPost, "/payments", padding+" "+sampleBody)), "body_too_large")
	broken := request(t, http.MethodPost, "/payments", "")
	broken.Body = io.NopCloser(iotest.ErrReader(&net.OpError{Op: "read", Err: syscall.ECONNRESET}))
	wantProblem(t, send(broken), "request_timeout")
}

// TestCreate_TwoKeys: a request with two idempotency keys is refused.
func TestCreate_TwoKeys(t *testing.T) {
	t.Parallel()
	server, _ := newTestServer(t)
	r := request(t, http.MethodPost, "/payments", sampleBody)
	r.Header.Add("Idempotency-Key", "another")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	wantProblem(t, w, "idempotency_key_invalid")
}

// TestCreate_Faults: members of a wrong type are reported together with all other faults, each
// member once.
func TestCreate_Faults(t *testing.T) {
	t.Parallel()
	server, memory := newTestServer(t)
	memory.free = true
	body := `{"amount": "1", "currency": 7, "originator": {"id": true, "name": ""}, "beneficiary": [],
		"sender": null, "receiver": {"type": "iban", "number": "DE00"}, "reference": null}`
	p := wantProblem(t, do(t, server, http.MethodPost, "/payments", body), "invalid_payment")
	var got []string
	for _, f := range p.Errors {
		if f.Detail == "" {
			t.Errorf("got no detail for %s", f.Pointer)
		}
		got = append(got, f.Pointer+" "+f.Code)
	}
	want := []string{
		"/amount type", "/currency type", "/originator/id type", "/beneficiary type", "/sender type", "/reference type",
		"/originator/name required", "/receiver/number iban_length",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got faults %q\nwant %q", got, want)
	}
}

// TestCreate_FaultsOfReusedKey: an earlier version may have stored what this one refuses. A retry
// then names the payment, and does not say that nothing was stored.
func TestCreate_FaultsOfReusedKey(t *testing.T) {
	t.Parallel()
	server, memory := newTestServer(t)
	body := strings.Replace(sampleBody, `"567"`, `"kunde-müller"`, 1)
	create := func() *httptest.ResponseRecorder {
		return do(t, server, http.MethodPost, "/payments", body, "Idempotency-Key", "order-7")
	}
	p := wantProblem(t, create(), "idempotency_key_reused")
	key, err := payment.ParseKey("order-7")
	if err != nil {
		t.Fatal(err)
	}
	if want := payment.DeriveID(memory.tenant.Salt, key).String(); p.PaymentID != want ||
		len(p.Errors) != 1 || p.Errors[0].Pointer != "/originator/id" {
		t.Errorf("got %+v, want payment %s and /originator/id", p, want)
	}
	memory.free = true
	p = wantProblem(t, create(), "invalid_payment")
	if p.PaymentID != "" {
		t.Errorf("a free key: got %+v, want no payment", p)
	}
}

// TestAppendPayment compares the whole document of a payment, sent and not sent, and with text that
// JSON must escape.
func TestAppendPayment(t *testing.T) {
	t.Parallel()
	_, store := newTestServer(t)
	p := store.stored
	p.Partition, p.Originator.Name = 3, payment.Private("\"Yo\\\n\u2028ł")
	id := p.ID.String()
	const content = `"amount":25687,"currency":"USD","originator":{"id":"567","name":"\"Yo\\\n` + "\u2028ł" + `"},` +
		`"beneficiary":{"id":"123","name":"Xavier Zork"},"sender":{"type":"checking","number":"765543322"},` +
		`"receiver":{"type":"iban","number":"DE89370400440532013000"}`
	want := `{"id":"` + id + `","status":"sent","final":false,` + content + `,"reference":"INV-7",` +
		`"created_at":"2026-11-23T12:00:00.123456Z","sent_at":"2026-11-23T12:00:00.131456Z",` +
		`"position":{"topic":"payments","partition":3,"offset":41}}`
	if got := string(appendPayment(nil, &p, true)); got != want {
		t.Errorf("sent:\ngot  %s\nwant %s", got, want)
	}
	p.Status, p.Emission, p.Reference = payment.StatusCreated, nil, ""
	want = `{"id":"` + id + `","status":"created","final":false,` + content +
		`,"created_at":"2026-11-23T12:00:00.123456Z"}`
	if got := string(appendPayment(nil, &p, true)); got != want {
		t.Errorf("created:\ngot  %s\nwant %s", got, want)
	}
}

// TestBodies_Newline: a body ends with one newline, so that a terminal and a log show it in lines
// of its own.
func TestBodies_Newline(t *testing.T) {
	t.Parallel()
	server, store := newTestServer(t)
	for target, status := range map[string]int{
		"/payments/" + store.stored.ID.String(): http.StatusOK,
		"/payments/none":                        http.StatusNotFound,
		"/openapi.json":                         http.StatusOK,
		"/nothing":                              http.StatusNotFound,
	} {
		w := do(t, server, http.MethodGet, target, "")
		body := w.Body.String()
		if w.Code != status || !strings.HasSuffix(body, "}\n") {
			t.Errorf("%s: got %d and a body that ends with %q, want %d and one newline",
				target, w.Code, body[max(0, len(body)-3):], status)
		}
		if got := w.Header().Get("Content-Length"); got != strconv.Itoa(len(body)) {
			t.Errorf("%s: got Content-Length %s, want %d", target, got, len(body))
		}
	}
	w := do(t, server, http.MethodPost, "/payments", sampleBody)
	if w.Code != http.StatusAccepted || !strings.HasSuffix(w.Body.String(), "}\n") {
		t.Errorf("POST: got %d and %q, want 202 and one newline at the end", w.Code, w.Body)
	}
}
