package integration

import (
	"net/http"
	"testing"
)

// testJudge is the control of the other tests. It alters a real response in each way in which a
// service may break its contract, and expects an error for each. A judge that accepts everything
// would let the other tests pass.
func (c *contract) testJudge(t *testing.T) {
	created := c.create(t, newKey(), order())
	refused := c.post(t, newKey(), order(with("/amount", 0)))
	sent := c.sent(t, created.path())
	waited := c.post(t, newKey(), order(), "Prefer", "wait=30")
	waited.want(t, http.StatusOK)
	for name, bent := range map[string]*response{
		"ExtraMember": created.bent(t, func(a *response, body map[string]any) { body["extra"] = 1 }),
		"NestedExtraMember": created.bent(t, func(_ *response, body map[string]any) {
			body["sender"].(map[string]any)["extra"] = 1
		}),
		"MissingMember": created.bent(t, func(_ *response, body map[string]any) { delete(body, "final") }),
		"OtherStatus":   created.bent(t, func(a *response, _ map[string]any) { a.status = http.StatusOK }),
		"UnknownStatus": created.bent(t, func(a *response, _ map[string]any) { a.status = http.StatusTeapot }),
		"OtherType":     created.bent(t, func(_ *response, body map[string]any) { body["amount"] = "25687" }),
		"Fraction":      created.bent(t, func(_ *response, body map[string]any) { body["amount"] = 1.5 }),
		"UUIDv4": created.bent(t, func(_ *response, body map[string]any) {
			body["id"] = "0193588a-7c3f-4f3c-9d41-6a5e8b7c1f20"
		}),
		"TimeWithoutMicros": created.bent(t, func(_ *response, body map[string]any) {
			body["created_at"] = "2026-11-23T12:00:00Z"
		}),
		"SentIn202":     created.bent(t, func(_ *response, body map[string]any) { body["status"] = "sent" }),
		"FinalTooEarly": created.bent(t, func(_ *response, body map[string]any) { body["final"] = true }),
		"OuterBlank":    created.bent(t, func(_ *response, body map[string]any) { body["reference"] = " INV-7" }),
		"MissingHeader": created.bent(t, func(a *response, _ map[string]any) { a.header.Del("Location") }),
		"NoRequestID":   created.bent(t, func(a *response, _ map[string]any) { a.header.Del("X-Request-Id") }),
		"OtherLocation": created.bent(t, func(a *response, _ map[string]any) {
			a.header.Set("Location", "/payment/7")
		}),
		"UndescribedHeader": created.bent(t, func(a *response, _ map[string]any) { a.header.Set("Server", "x") }),
		"HeaderTwice":       created.bent(t, func(a *response, _ map[string]any) { a.header.Add("Retry-After", "1") }),
		"OtherMediaType": created.bent(t, func(a *response, _ map[string]any) {
			a.header.Set("Content-Type", "text/html")
		}),
		"NotJSON":             created.bent(t, func(a *response, _ map[string]any) { a.body = []byte("{") }),
		"Empty":               created.bent(t, func(a *response, _ map[string]any) { a.body = []byte(" ") }),
		"NoSentAt":            sent.bent(t, func(_ *response, body map[string]any) { delete(body, "sent_at") }),
		"CreatedWithPosition": sent.bent(t, func(_ *response, body map[string]any) { body["status"] = "created" }),
		"WeakETag":            sent.bent(t, func(a *response, _ map[string]any) { a.header.Set("ETag", `W/"sent"`) }),
		"BodyIn304":           sent.bent(t, func(a *response, _ map[string]any) { a.status = http.StatusNotModified }),
		"NoETagIn304": sent.bent(t, func(a *response, _ map[string]any) {
			a.status, a.body = http.StatusNotModified, []byte{}
			a.header.Del("ETag")
		}),
		"NoPreferenceApplied": waited.bent(t, func(a *response, _ map[string]any) {
			a.header.Del("Preference-Applied")
		}),
		"NoContentLocation": waited.bent(t, func(a *response, _ map[string]any) { a.header.Del("Content-Location") }),
		"LocationInA200": waited.bent(t, func(a *response, _ map[string]any) {
			a.header.Set("Location", created.path())
		}),
		"BodyInHead":        sent.bent(t, func(a *response, _ map[string]any) { a.method = http.MethodHead }),
		"CodeOfOtherStatus": refused.bent(t, func(_ *response, body map[string]any) { body["code"] = "query_invalid" }),
		"CodeOfNoSet":       refused.bent(t, func(_ *response, body map[string]any) { body["code"] = "other" }),
		"NoErrors":          refused.bent(t, func(_ *response, body map[string]any) { delete(body, "errors") }),
		"PointerOfNoSet": refused.bent(t, func(_ *response, body map[string]any) {
			body["errors"].([]any)[0].(map[string]any)["pointer"] = "/x"
		}),
		"ProblemOfOtherPath": refused.bent(t, func(_ *response, body map[string]any) { body["instance"] = "/" }),
		"OtherRequestID":     refused.bent(t, func(_ *response, body map[string]any) { body["request_id"] = "other" }),
		"OtherPath":          refused.bent(t, func(a *response, _ map[string]any) { a.target = "/payment" }),
	} {
		if _, err := c.judge.check(bent); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
	unplaced := sent.bent(t, func(_ *response, body map[string]any) { delete(body, "position") })
	for _, unbent := range []*response{created, refused, sent, waited, unplaced} {
		if _, err := c.judge.check(unbent.bent(t, func(*response, map[string]any) {})); err != nil {
			t.Errorf("an unaltered response: got error %v, want none", err)
		}
	}
}
