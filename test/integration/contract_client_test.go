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

// answer is what came back, with what it came back for.
type answer struct {
	method string
	target string // Path and query.
	status int
	header http.Header
	body   []byte
}

// problem is a problem document as a client's program reads it.
type problem struct {
	Status    int
	Detail    string
	Instance  string
	Code      string
	RequestID string `json:"request_id"`
	PaymentID string `json:"payment_id"`
	Errors    []struct{ Pointer, Code, Detail string }
}

// do makes one request and has its answer judged. The headers are names and values in turn; without
// an Authorization among them the tenant's key is sent, and an empty one stands for none.
func (c *contract) do(t *testing.T, method, target, body string, headers ...string) *answer {
	t.Helper()
	return c.stream(t, method, target, strings.NewReader(body), headers...)
}

func (c *contract) stream(t *testing.T, method, target string, body io.Reader, headers ...string) *answer {
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

// judged reads an answer and fails the test if it is not one that the document describes.
func (c *contract) judged(t *testing.T, method, target string, response *http.Response) *answer {
	t.Helper()
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{method: method, target: target, status: response.StatusCode, header: response.Header, body: body}
	operation, err := c.judge.check(a)
	if err != nil {
		t.Errorf("%s %s answers %d, which the document does not describe: %v\n%v\n%s", method, target, a.status, err,
			a.header, a.body)
	}
	var p problem
	if a.header.Get("Content-Type") == "application/problem+json" && method != http.MethodHead {
		_ = json.Unmarshal(body, &p) // The judge has read it.
	}
	c.saw(operation, p.Code)
	return a
}

// post makes a create of the tenant's.
func (c *contract) post(t *testing.T, key, body string, headers ...string) *answer {
	t.Helper()
	return c.do(t, http.MethodPost, "/payments", body,
		append([]string{"Content-Type", "application/json", "Idempotency-Key", key}, headers...)...)
}

// create makes a create that must succeed.
func (c *contract) create(t *testing.T, key, body string, headers ...string) *answer {
	t.Helper()
	a := c.post(t, key, body, headers...)
	a.want(t, http.StatusAccepted)
	return a
}

func (c *contract) get(t *testing.T, target string, headers ...string) *answer {
	t.Helper()
	return c.do(t, http.MethodGet, target, "", headers...)
}

// sent waits until the payment at path is sent.
func (c *contract) sent(t *testing.T, path string) *answer {
	t.Helper()
	var a *answer
	eventually(t, path+" to be sent", func() error {
		a = c.get(t, path, "Prefer", "wait=5")
		if a.want(t, http.StatusOK); a.member(t, "status") != "sent" {
			return errNotYet
		}
		return nil
	})
	return a
}

// want fails the test at once when the status is another one.
func (a *answer) want(t *testing.T, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("%s %s answers %d, want %d\n%s", a.method, a.target, a.status, status, a.body)
	}
}

// wantHeaders takes names and values in turn; an empty value stands for a header that must be
// absent.
func (a *answer) wantHeaders(t *testing.T, headers ...string) {
	t.Helper()
	for i := 0; i < len(headers); i += 2 {
		if got := a.header.Get(headers[i]); got != headers[i+1] {
			t.Errorf("%s %s answers %s: %q, want %q", a.method, a.target, headers[i], got, headers[i+1])
		}
	}
}

// wantProblem wants the problem, under its status, and returns it.
func (a *answer) wantProblem(t *testing.T, code string) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil || p.Code != code || a.status != statusOf[code] {
		t.Fatalf("%s %s answers %d, want %d %s\n%s", a.method, a.target, a.status, statusOf[code], code, a.body)
	}
	return p
}

// wantFaults wants exactly these errors in the problem, "pointer code" each.
func (p problem) wantFaults(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Pointer+" "+e.Code)
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("errors are\n%q, want\n%q", got, want)
	}
}

// members reads the body; numbers stay as they are written.
func (a *answer) members(t *testing.T) map[string]any {
	t.Helper()
	return parse(t, string(a.body))
}

func (a *answer) member(t *testing.T, name string) any {
	t.Helper()
	return a.members(t)[name]
}

// path is where a create's answer says that the payment is.
func (a *answer) path() string { return a.header.Get("Location") }

// bent returns a copy that change has altered; change may set the body itself, which is otherwise
// made of the altered members.
func (a *answer) bent(t *testing.T, change func(*answer, map[string]any)) *answer {
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

// order is the body of a valid create, with changes on top.
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

// with sets the member that a JSON pointer names; json.RawMessage sets it to a text that is no
// value of Go's.
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
