package integration

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// testStatus follows a payment to the topic. The members of the response to the create stay.
// sent_at and position are added.
func (c *contract) testStatus(t *testing.T) {
	created := c.create(t, newKey(), order())
	sent := c.sent(t, created.path())
	sent.wantHeaders(t, "Cache-Control", "no-store", "Vary", "Authorization, Prefer", "Retry-After", "",
		"Content-Location", "", "Content-Type", "application/json")
	got, want := sent.members(t), created.members(t)
	position := got["position"].(map[string]any)
	if position["topic"] != c.topic {
		t.Errorf("got position %v, want topic %s", position, c.topic)
	}
	if got["sent_at"].(string) < got["created_at"].(string) { // One form, so text compares as time.
		t.Errorf("got sent_at %v, want it not before created_at %v", got["sent_at"], got["created_at"])
	}
	want["status"], want["sent_at"], want["position"] = "sent", got["sent_at"], position
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got the payment\n%v, want\n%v", got, want)
	}
}

// testByKey finds the payment whose response was lost.
func (c *contract) testByKey(t *testing.T) {
	key := newKey()
	created := c.create(t, key, order())
	byID := c.sent(t, created.path())
	target := "/payments?idempotency_key=" + key
	byKey := c.get(t, target)
	byKey.want(t, http.StatusOK)
	byKey.wantHeaders(t, "Content-Location", created.path(), "ETag", byID.header.Get("ETag"), "Cache-Control",
		"no-store", "Vary", "Authorization, Prefer")
	if string(byKey.body) != string(byID.body) {
		t.Errorf("by key: got\n%s, want as by id\n%s", byKey.body, byID.body)
	}
	known := c.get(t, target, "If-None-Match", byID.header.Get("ETag"))
	known.want(t, http.StatusNotModified)
	known.wantHeaders(t, "Content-Location", created.path())
	c.get(t, target, "Prefer", "wait=3").wantHeaders(t, "Preference-Applied", "wait=3")
	unknown := c.get(t, "/payments?idempotency_key="+newKey())
	unknown.wantProblem(t, "not_found")
	unknown.wantHeaders(t, "Content-Location", "")
}

// testQuery sends queries that are no lookup by key.
func (c *contract) testQuery(t *testing.T) {
	for name, query := range map[string]string{
		"None": "", "Empty": "?", "Other": "?key=k", "Case": "?Idempotency_Key=k",
		"Twice": "?idempotency_key=a&idempotency_key=a", "OneMore": "?idempotency_key=k&page=2",
		"BadEscape": "?idempotency_key=%zz", "Semicolon": "?idempotency_key=a;b",
	} {
		t.Run(name, func(t *testing.T) { c.get(t, "/payments"+query).wantProblem(t, "query_invalid") })
	}
	for name, key := range refusedKeys() {
		t.Run("Key/"+name, func(t *testing.T) {
			c.get(t, "/payments?idempotency_key="+escaped(key)).wantProblem(t, "idempotency_key_invalid")
		})
	}
}

// testNotModified sends a known version, in each form of RFC 9110 section 13.1.2.
func (c *contract) testNotModified(t *testing.T) {
	path := c.create(t, newKey(), order()).path()
	sent := c.sent(t, path)
	tag := sent.header.Get("ETag")
	for name, known := range map[string]string{
		"Same": tag, "Any": "*", "Listed": `"x", ` + tag + `, "y"`,
		"Weak": "W/" + tag,
	} {
		t.Run(name, func(t *testing.T) {
			a := c.get(t, path, "If-None-Match", known)
			a.want(t, http.StatusNotModified)
			a.wantHeaders(t, "ETag", tag, "Cache-Control", "no-store", "Vary", "Authorization, Prefer",
				"Content-Type", "")
		})
	}
	for name, known := range map[string]string{
		"Other": `"created"`, "Unquoted": strings.Trim(tag, `"`), "Empty": "",
		"OtherCase": strings.ToUpper(tag),
	} {
		t.Run("Modified/"+name, func(t *testing.T) { c.get(t, path, "If-None-Match", known).want(t, http.StatusOK) })
	}
	t.Run("OtherPayment", func(t *testing.T) {
		other := c.sent(t, c.create(t, newKey(), order()).path())
		if other.header.Get("ETag") == tag {
			t.Errorf("got ETag %s for two payments, want different ones", tag)
		}
	})
	// `*` matches any version, but an unknown payment has none.
	t.Run("Unknown", func(t *testing.T) {
		c.get(t, "/payments/0193588a-7c3f-8f3c-9d41-6a5e8b7c1f20", "If-None-Match", "*").wantProblem(t, "not_found")
	})
}

// createdTag returns the path of a payment and its ETag from before it was sent.
func (c *contract) createdTag(t *testing.T) (path, tag string) {
	t.Helper()
	eventually(t, "a payment is seen before it is sent", func() error {
		path = c.create(t, newKey(), order()).path()
		a := c.get(t, path)
		if a.member(t, "status") != "created" {
			return errNotYet
		}
		tag = a.header.Get("ETag")
		return nil
	})
	return path, tag
}

// testWait waits until the payment is sent. Prefer is parsed by RFC 7240: an invalid preference is
// ignored.
func (c *contract) testWait(t *testing.T) {
	t.Run("UntilSent", func(t *testing.T) {
		a := c.get(t, c.create(t, newKey(), order()).path(), "Prefer", "wait=30")
		a.want(t, http.StatusOK)
		a.wantHeaders(t, "Preference-Applied", "wait=30")
		if status := a.member(t, "status"); status != "sent" {
			t.Errorf("got status %v after a wait of 30 s, want sent", status)
		}
	})
	t.Run("SinceCreated", func(t *testing.T) {
		path, tag := c.createdTag(t)
		a := c.get(t, path, "Prefer", "wait=30", "If-None-Match", tag)
		a.want(t, http.StatusOK)
		if position, there := a.member(t, "position").(map[string]any); !there ||
			position["offset"].(json.Number) == "" {
			t.Errorf("got %s, want a position", a.body)
		}
	})
	path := c.create(t, newKey(), order()).path()
	tag := c.sent(t, path).header.Get("ETag")
	t.Run("NoChange", func(t *testing.T) {
		a := c.get(t, path, "Prefer", "wait=1", "If-None-Match", tag)
		a.want(t, http.StatusNotModified)
		a.wantHeaders(t, "Preference-Applied", "wait=1", "ETag", tag)
	})
	for prefer, applied := range map[string]string{
		"wait=7": "wait=7", "wait=31": "wait=30", "wait=999999999": "wait=30", "WAIT=7": "wait=7", `wait="7"`: "wait=7",
		"wait = 7":              "wait=7",
		"respond-async, wait=7": "wait=7", "wait=7; foo=bar": "wait=7",
		"": "", "wait": "", "wait=": "", "wait=x": "", "wait=-1": "", "wait=1.5": "", "wait=0": "", "wait=7s": "",
		"await=7": "", "respond-async": "",
		"wait=99999999999999999999": "",
	} {
		t.Run("Prefer/"+prefer, func(t *testing.T) {
			a := c.get(t, path, "Prefer", prefer)
			a.want(t, http.StatusOK)
			a.wantHeaders(t, "Preference-Applied", applied)
		})
	}
}
