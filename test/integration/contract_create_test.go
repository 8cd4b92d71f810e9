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

// testCreate shows the whole of a first answer: what was asked for, as it was asked for, and what
// the service adds.
func (c *contract) testCreate(t *testing.T) {
	body := order()
	if err := c.judge.request(body); err != nil {
		t.Errorf("the document does not take a create that the service takes: %v", err)
	}
	a := c.create(t, newKey(), body)
	a.wantHeaders(t, "Retry-After", "1", "Idempotent-Replayed", "", "Content-Type", "application/json")
	got, want := a.members(t), parse(t, body)
	if a.path() != "/payments/"+got["id"].(string) {
		t.Errorf("Location %q of payment %v", a.path(), got["id"])
	}
	want["id"], want["created_at"], want["status"], want["final"] = got["id"], got["created_at"], "created", false
	if !reflect.DeepEqual(got, want) {
		t.Errorf("answered\n%v, want\n%v", got, want)
	}
	if found := c.get(t, a.path()).members(t); found["created_at"] != got["created_at"] || found["id"] != got["id"] {
		t.Errorf("found %v, created %v", found, got)
	}
}

// testNormalForm shows in which form content is stored: what comes back, at once and later, need
// not be what was sent.
func (c *contract) testNormalForm(t *testing.T) {
	const blanks = " \t\u00a0\u3000\n"
	for name, row := range map[string]struct {
		pointer     string
		sent, shown any
	}{
		"PrintedIBAN":     {"/receiver/number", "DE89 3704 0044 0532 0130 00", secrets[3]},
		"LowerCaseIBAN":   {"/receiver/number", " " + strings.ToLower(secrets[3]), secrets[3]},
		"OtherScheme":     {"/sender/number", "de89 3704", "de89 3704"}, // What is no IBAN is the tenant's own.
		"Type":            {"/sender/type", blanks + "savings_1-a" + blanks, "savings_1-a"},
		"OuterBlanks":     {"/originator/name", blanks + "Ada  Quist" + blanks, "Ada  Quist"},
		"ID":              {"/beneficiary/id", " 7 ", "7"},
		"Decomposed":      {"/beneficiary/name", "Zoe\u0308 A\u030angstro\u0308m", "Zo\u00eb \u00c5ngstr\u00f6m"},
		"Longest":         {"/originator/name", strings.Repeat("\u6f22", 140), strings.Repeat("\u6f22", 140)},
		"LongestOnceNFC":  {"/originator/id", strings.Repeat("e\u0301", 35), strings.Repeat("\u00e9", 35)},
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
			for _, a := range []*answer{created, c.get(t, created.path()),
				c.create(t, key, order(with(row.pointer, row.shown)))} {
				var got any
				at(a.members(t), row.pointer, func(m map[string]any, name string) { got = m[name] })
				if got != row.shown {
					t.Errorf("%s %s shows %q, want %q", a.method, a.target, got, row.shown)
				}
			}
		})
	}
	t.Run("NoReference", func(t *testing.T) {
		a := c.create(t, newKey(), order(without("/reference")))
		for _, a := range []*answer{a, c.get(t, a.path())} {
			if reference, there := a.members(t)["reference"]; there {
				t.Errorf("%s shows a reference %q", a.method, reference)
			}
		}
	})
}

// testReplay shows that a retry gets the answer that was lost, whatever has become of the payment
// meanwhile and however key and content are written.
func (c *contract) testReplay(t *testing.T) {
	key := newKey()
	original := c.create(t, key, order())
	c.sent(t, original.path())
	for name, again := range map[string]func() *answer{
		"Same":        func() *answer { return c.create(t, key, order()) },
		"QuotedKey":   func() *answer { return c.create(t, `"`+key+`"`, order()) },
		"OtherLayout": func() *answer { return c.create(t, key, "\n "+strings.ReplaceAll(order(), `,"`, ` , "`)) },
		"OtherForm": func() *answer {
			return c.create(t, key, order(with("/receiver/number", "de89 37040044 0532013000 ")))
		},
		"OtherTrace": func() *answer {
			return c.create(t, key, order(), "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		},
		"Charset":     func() *answer { return c.createAs(t, key, order(), "Application/JSON; charset=utf-8") },
		"WithRequest": func() *answer { return c.create(t, key, order(), "X-Request-Id", "other") },
		"QueryIsNoOne": func() *answer {
			return c.do(t, "POST", "/payments?x=1", order(), "Content-Type", "application/json", "Idempotency-Key", key)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := again()
			a.want(t, http.StatusAccepted)
			a.wantHeaders(t, "Idempotent-Replayed", "true", "Location", original.path(), "Retry-After", "1")
			if !bytes.Equal(a.body, original.body) {
				t.Errorf("the replay is\n%s, the original\n%s", a.body, original.body)
			}
		})
	}
}

func (c *contract) createAs(t *testing.T, key, body, mediaType string) *answer {
	t.Helper()
	return c.do(t, http.MethodPost, "/payments", body, "Content-Type", mediaType, "Idempotency-Key", key)
}

// testRace lets many clients make the same create at once. Exactly one of them is told that it made
// the payment.
func (c *contract) testRace(t *testing.T) {
	const clients = 32
	key, answers := newKey(), make([]*answer, clients)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = c.post(t, key, order()) })
	}
	all.Wait()
	if t.Failed() { // A client that failed has no answer.
		return
	}
	var originals int
	for _, a := range answers {
		a.want(t, http.StatusAccepted)
		if a.header.Get("Idempotent-Replayed") == "" {
			originals++
		}
		if !bytes.Equal(a.body, answers[0].body) {
			t.Errorf("two answers differ:\n%s\n%s", a.body, answers[0].body)
		}
	}
	if originals != 1 {
		t.Errorf("%d of %d concurrent creates are told that they made the payment", originals, clients)
	}
}

// testKeyReused asks for another payment under a key: it is refused, names what differs, and leaves
// key and payment as they were.
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
	wantReused := func(t *testing.T, a *answer, differs ...string) {
		t.Helper()
		p := a.wantProblem(t, "idempotency_key_reused")
		p.wantFaults(t, differs...)
		if "/payments/"+p.PaymentID != original.path() {
			t.Errorf("the key is said to stand for %q, which is %s", p.PaymentID, original.path())
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
		t.Errorf("the payment has become\n%s, it was\n%s", again.body, original.body)
	}
}
