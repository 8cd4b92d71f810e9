package integration

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// testCreate checks the whole first response: the members of the request as they were sent, and
// those that the service adds.
func (c *contract) testCreate(t *testing.T) {
	body := order()
	if err := c.judge.request(body); err != nil {
		t.Errorf("the schema for a valid create: got error %v, want none", err)
	}
	a := c.create(t, newKey(), body)
	a.wantHeaders(t, "Retry-After", "1", "Idempotent-Replayed", "", "Content-Type", "application/json")
	got, want := a.members(t), parse(t, body)
	if a.path() != "/payments/"+got["id"].(string) {
		t.Errorf("got Location %q, want that of payment %v", a.path(), got["id"])
	}
	want["id"], want["created_at"], want["status"], want["final"] = got["id"], got["created_at"], "created", false
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v, want\n%v", got, want)
	}
	if found := c.get(t, a.path()).members(t); found["created_at"] != got["created_at"] || found["id"] != got["id"] {
		t.Errorf("GET: got\n%v, want id and created_at of\n%v", found, got)
	}
}

// testNormalForm checks the normal form in which content is stored. Responses have that form, which
// may differ from the request.
func (c *contract) testNormalForm(t *testing.T) {
	const blanks = " \t\u00a0\u3000\n"
	for name, row := range map[string]struct {
		pointer     string
		sent, shown any
	}{
		"PrintedIBAN":     {"/receiver/number", "DE89 3704 0044 0532 0130 00", secrets[3]},
		"LowerCaseIBAN":   {"/receiver/number", " " + strings.ToLower(secrets[3]), secrets[3]},
		"OtherScheme":     {"/sender/number", "de89 3704", "de89 3704"}, // Not an IBAN: kept as it is.
		"Type":            {"/sender/type", blanks + "savings_1-a" + blanks, "savings_1-a"},
		"OuterBlanks":     {"/originator/name", blanks + "Ada  Quist" + blanks, "Ada  Quist"},
		"ID":              {"/beneficiary/id", " 7 ", "7"},
		"Decomposed":      {"/beneficiary/name", "Zoe\u0308 A\u030angstro\u0308m", "Zo\u00eb \u00c5ngstr\u00f6m"},
		"Longest":         {"/originator/name", strings.Repeat("\u6f22", 140), strings.Repeat("\u6f22", 140)},
		"LongestOnceNFC":  {"/reference", strings.Repeat("e\u0301", 35), strings.Repeat("\u00e9", 35)},
		"Joiner":          {"/originator/name", "\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"},
		"BeyondTheBMP":    {"/originator/name", "\U0001f9fe", "\U0001f9fe"},
		"MarkupIsText":    {"/originator/name", `<b>"&\`, `<b>"&\`},
		"Reference":       {"/reference", blanks + strings.Repeat("R", 35), strings.Repeat("R", 35)},
		"SmallestAmount":  {"/amount", 1, json.Number("1")},
		"LargestAmount":   {"/amount", 999_999_999_999_999, json.Number("999999999999999")},
		"Yen":             {"/currency", "JPY", "JPY"},
		"LongestNumber":   {"/sender/number", strings.Repeat("9", 34), strings.Repeat("9", 34)},
		"LongestTypeName": {"/sender/type", strings.Repeat("t", 35), strings.Repeat("t", 35)},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey()
			created := c.create(t, key, order(with(row.pointer, row.sent)))
			for _, a := range []*response{
				created, c.get(t, created.path()),
				c.create(t, key, order(with(row.pointer, row.shown))),
			} {
				var got any
				at(a.members(t), row.pointer, func(m map[string]any, name string) { got = m[name] })
				if got != row.shown {
					t.Errorf("%s %s: got %q, want %q", a.method, a.target, got, row.shown)
				}
			}
		})
	}
	t.Run("NoReference", func(t *testing.T) {
		a := c.create(t, newKey(), order(without("/reference")))
		for _, a := range []*response{a, c.get(t, a.path())} {
			if reference, there := a.members(t)["reference"]; there {
				t.Errorf("%s: got reference %q, want none", a.method, reference)
			}
		}
	})
}

// testReplay shows that a retry gets the lost response, whatever has become of the payment since,
// and however key and content are written.
func (c *contract) testReplay(t *testing.T) {
	key := newKey()
	original := c.create(t, key, order())
	c.sent(t, original.path())
	for name, again := range map[string]func() *response{
		"Same":        func() *response { return c.create(t, key, order()) },
		"QuotedKey":   func() *response { return c.create(t, `"`+key+`"`, order()) },
		"OtherLayout": func() *response { return c.create(t, key, "\n "+strings.ReplaceAll(order(), `,"`, ` , "`)) },
		"OtherForm": func() *response {
			return c.create(t, key, order(with("/receiver/number", "de89 37040044 0532013000 ")))
		},
		"OtherTrace": func() *response {
			return c.create(t, key, order(), "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		},
		"Charset":     func() *response { return c.createAs(t, key, order(), "Application/JSON; charset=utf-8") },
		"WithRequest": func() *response { return c.create(t, key, order(), "X-Request-Id", "other") },
		"QueryIsNoOne": func() *response {
			return c.do(t, "POST", "/payments?x=1", order(), "Content-Type", "application/json", "Idempotency-Key", key)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := again()
			a.want(t, http.StatusAccepted)
			a.wantHeaders(t, "Idempotent-Replayed", "true", "Location", original.path(), "Retry-After", "1")
			if !bytes.Equal(a.body, original.body) {
				t.Errorf("replay: got\n%s, want the original\n%s", a.body, original.body)
			}
		})
	}
}

func (c *contract) createAs(t *testing.T, key, body, mediaType string) *response {
	t.Helper()
	return c.do(t, http.MethodPost, "/payments", body, "Content-Type", mediaType, "Idempotency-Key", key)
}

// testRace makes the same create with many clients at once. Exactly one response is the original.
func (c *contract) testRace(t *testing.T) {
	const clients = 32
	key, responses := newKey(), make([]*response, clients)
	var all sync.WaitGroup
	for i := range responses {
		all.Go(func() { responses[i] = c.post(t, key, order()) })
	}
	all.Wait()
	if t.Failed() { // A client that failed has no response.
		return
	}
	var originals int
	for _, a := range responses {
		a.want(t, http.StatusAccepted)
		if a.header.Get("Idempotent-Replayed") == "" {
			originals++
		}
		if !bytes.Equal(a.body, responses[0].body) {
			t.Errorf("got body\n%s, want that of the first response\n%s", a.body, responses[0].body)
		}
	}
	if originals != 1 {
		t.Errorf("got %d original responses to %d concurrent creates, want 1", originals, clients)
	}
}

// testKeyReused requests another payment with a used key. The refusal names what differs, and
// leaves key and payment as they were.
func (c *contract) testKeyReused(t *testing.T) {
	key := newKey()
	original := c.create(t, key, order())
	others := []struct {
		pointer string
		change  func(map[string]any)
	}{
		{"/amount", with("/amount", 25688)},
		{"/currency", with("/currency", "EUR")},
		{"/originator/id", with("/originator/id", "568")},
		{"/originator/name", with("/originator/name", "Ada")},
		{"/beneficiary/id", with("/beneficiary/id", "124")},
		{"/beneficiary/name", with("/beneficiary/name", "Xaver")},
		{"/sender/type", with("/sender/type", "savings")},
		{"/sender/number", with("/sender/number", "1")},
		{"/receiver/type", with("/receiver/type", "bban")},
		{"/receiver/number", with("/receiver/number", "NL91ABNA0417164300")},
		{"/reference", with("/reference", "INV-8")},
	}
	wantReused := func(t *testing.T, a *response, differs ...string) {
		t.Helper()
		p := a.wantProblem(t, "idempotency_key_reused")
		p.wantFaults(t, differs...)
		if "/payments/"+p.PaymentID != original.path() {
			t.Errorf("got payment_id %q, want that of %s", p.PaymentID, original.path())
		}
	}
	var changes []func(map[string]any)
	var differs []string
	for _, other := range others {
		t.Run(other.pointer, func(t *testing.T) {
			wantReused(t, c.post(t, key, order(other.change)), other.pointer+" differs")
		})
		changes, differs = append(changes, other.change), append(differs, other.pointer+" differs")
	}
	t.Run("All", func(t *testing.T) { wantReused(t, c.post(t, key, order(changes...)), differs...) })
	t.Run("Absent", func(t *testing.T) {
		wantReused(t, c.post(t, key, order(without("/reference"))), "/reference differs")
	})
	if again := c.create(t, key, order()); !bytes.Equal(again.body, original.body) {
		t.Errorf("got the payment\n%s, want it unchanged\n%s", again.body, original.body)
	}
}
