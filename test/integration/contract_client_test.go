package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// response is a response of the service, with the method and target of its request.
type response struct {
	method string
	target string // Path and query.
	status int
	header http.Header
	body   []byte
}

// problem is a problem document as a client decodes it.
type problem struct {
	Status    int
	Detail    string
	Instance  string
	Code      string
	RequestID string `json:"request_id"`
	PaymentID string `json:"payment_id"`
	Errors    []struct{ Pointer, Code, Detail string }
}

// do makes one request and checks the response against the document. The headers are alternating
// names and values. Without an Authorization the tenant's key is sent. An empty Authorization sends
// none.
func (c *contract) do(t *testing.T, method, target, body string, headers ...string) *response {
	t.Helper()
	return c.stream(t, method, target, strings.NewReader(body), headers...)
}

func (c *contract) stream(t *testing.T, method, target string, body io.Reader, headers ...string) *response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.base+target, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	switch values := r.Header.Values("Authorization"); {
	case len(values) == 0:
		r.Header.Set("Authorization", "Bearer "+c.key)
	case values[0] == "":
		r.Header.Del("Authorization")
	}
	response, err := c.http.Do(r) //nolint:bodyclose // The judge reads and closes it.
	if err != nil {
		t.Fatal(err)
	}
	return c.judged(t, method, target, response)
}

// judged reads a response, and fails the test if the document does not describe it.
func (c *contract) judged(t *testing.T, method, target string, r *http.Response) *response {
	t.Helper()
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &response{method: method, target: target, status: r.StatusCode, header: r.Header, body: body}
	operation, err := c.judge.check(a)
	if err != nil {
		t.Errorf("%s %s: got status %d, want a response that the document describes: %v\n%v\n%s", method, target,
			a.status, err,
			a.header, a.body)
	}
	var p problem
	if a.header.Get("Content-Type") == "application/problem+json" && method != http.MethodHead {
		_ = json.Unmarshal(body, &p) // The judge has decoded it.
	}
	c.saw(operation, p.Code)
	return a
}

// post makes a create for the tenant.
func (c *contract) post(t *testing.T, key, body string, headers ...string) *response {
	t.Helper()
	return c.do(t, http.MethodPost, "/payments", body,
		append([]string{"Content-Type", "application/json", "Idempotency-Key", key}, headers...)...)
}

// create makes a create that must succeed.
func (c *contract) create(t *testing.T, key, body string, headers ...string) *response {
	t.Helper()
	a := c.post(t, key, body, headers...)
	a.want(t, http.StatusAccepted)
	return a
}

func (c *contract) get(t *testing.T, target string, headers ...string) *response {
	t.Helper()
	return c.do(t, http.MethodGet, target, "", headers...)
}

// sent waits until the payment at path is sent.
func (c *contract) sent(t *testing.T, path string) *response {
	t.Helper()
	var a *response
	eventually(t, path+" is sent", func() error {
		a = c.get(t, path, "Prefer", "wait=5")
		a.want(t, http.StatusOK)
		if a.member(t, "status") != "sent" {
			return errNotYet
		}
		return nil
	})
	return a
}

// want fails the test at once if the status is another one.
func (a *response) want(t *testing.T, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("%s %s: got status %d, want %d\n%s", a.method, a.target, a.status, status, a.body)
	}
}

// wantHeaders takes alternating names and values. An empty value expects that the header is absent.
func (a *response) wantHeaders(t *testing.T, headers ...string) {
	t.Helper()
	for i := 0; i < len(headers); i += 2 {
		if got := a.header.Get(headers[i]); got != headers[i+1] {
			t.Errorf("%s %s: got %s %q, want %q", a.method, a.target, headers[i], got, headers[i+1])
		}
	}
}

// wantProblem expects the problem with its status, and returns it.
func (a *response) wantProblem(t *testing.T, code string) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil || p.Code != code || a.status != statusOf[code] {
		t.Fatalf("%s %s: got status %d, want %d %s\n%s", a.method, a.target, a.status, statusOf[code], code, a.body)
	}
	return p
}

// wantFaults expects exactly these errors in the problem. Each is "pointer code".
func (p problem) wantFaults(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Pointer+" "+e.Code)
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("got errors\n%q, want\n%q", got, want)
	}
}

// members decodes the body. Numbers keep their notation.
func (a *response) members(t *testing.T) map[string]any {
	t.Helper()
	return parse(t, string(a.body))
}

func (a *response) member(t *testing.T, name string) any {
	t.Helper()
	return a.members(t)[name]
}

// path returns the path of the payment from the response to a create.
func (a *response) path() string { return a.header.Get("Location") }

// bent returns a copy that change has altered. The body is made of the altered members, unless
// change sets it.
func (a *response) bent(t *testing.T, change func(*response, map[string]any)) *response {
	t.Helper()
	b := *a
	b.header, b.body = maps.Clone(a.header), nil
	members := a.members(t)
	change(&b, members)
	if b.body == nil {
		b.body = written(members)
	}
	return &b
}

func parse(t *testing.T, body string) map[string]any {
	t.Helper()
	var members map[string]any
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return members
}

func written(members map[string]any) []byte {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(members); err != nil {
		panic(err) // Maps of strings and numbers always marshal.
	}
	return b.Bytes()
}

// order returns the body of a valid create with the given changes.
func order(changes ...func(map[string]any)) string {
	members := map[string]any{
		"amount": 25687, "currency": "USD", "reference": "INV-7",
		"originator":  map[string]any{"id": "567", "name": secrets[0]},
		"beneficiary": map[string]any{"id": "123", "name": secrets[1]},
		"sender":      map[string]any{"type": "checking", "number": secrets[2]},
		"receiver":    map[string]any{"type": "iban", "number": secrets[3]},
	}
	for _, change := range changes {
		change(members)
	}
	return string(written(members))
}

// with sets the member at a JSON pointer. json.RawMessage sets a text that is not the encoding of a
// Go value.
func with(pointer string, value any) func(map[string]any) {
	return func(members map[string]any) {
		at(members, pointer, func(m map[string]any, name string) { m[name] = value })
	}
}

func without(pointer string) func(map[string]any) {
	return func(members map[string]any) {
		at(members, pointer, func(m map[string]any, name string) { delete(m, name) })
	}
}

func at(members map[string]any, pointer string, change func(map[string]any, string)) {
	parent, name, nested := strings.Cut(pointer[1:], "/")
	if !nested {
		change(members, parent)
		return
	}
	change(members[parent].(map[string]any), name)
}
