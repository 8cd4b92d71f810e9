package integration

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// bodyMax is the size in bytes of the largest body that the service reads.
const bodyMax = 64 << 10

// testMalformedJSON sends bodies that are no JSON object. Some are nested deeply: a parser without
// a bound would exhaust its stack.
func (c *contract) testMalformedJSON(t *testing.T) {
	deep := func(open, shut string, n int) string {
		return `{"amount":` + strings.Repeat(open, n) + strings.Repeat(shut, n) + "}"
	}
	for name, body := range map[string]string{
		"Empty": "", "Blank": " \n", "Null": "null", "Array": "[" + order() + "]", "String": `"payment"`, "Number": "1",
		"Text":   "amount=1",
		"CutOff": order()[:100], "TrailingComma": strings.Replace(order(), "}\n", ",}", 1),
		"TwoValues": order() + order(), "TrailingText": order() + "x",
		"Comment": "/* */" + order(), "SingleQuotes": strings.ReplaceAll(order(), `"`, `'`), "BOM": "\ufeff" + order(),
		"UTF16": "\xfe\xff\x00{\x00}", "InvalidUTF8": strings.Replace(order(), "Quist", "Qu\xffst", 1),
		"LoneSurrogate": strings.Replace(order(), "Quist", `\ud800`, 1),
		"OverlongUTF8":  strings.Replace(order(), "Quist", "\xc0\xaf", 1),
		"NUL":           strings.Replace(order(), "Quist", "\x00", 1),
		"NaN":           `{"amount":NaN}`, "LeadingZero": `{"amount":012}`, "PlusSign": `{"amount":+1}`,
		"Hex":        `{"amount":0x10}`,
		"Gzip":       "\x1f\x8b\x08\x00",
		"DeepArrays": deep("[", "]", 30_000), "DeepObjects": deep(`{"a":`, "", 12_000),
		"OpenArrays": deep("[", "", 60_000),
	} {
		t.Run(name, func(t *testing.T) { c.post(t, newKey(), body).wantProblem(t, "malformed_json") })
	}
	t.Run("DeepButValid", func(t *testing.T) {
		c.post(t, newKey(), deep("[", "]", 5000)).wantProblem(t, "invalid_payment")
	})
}

// testMembers sends members that the API does not know, and members that occur twice. A lenient
// parser would drop them silently.
func (c *contract) testMembers(t *testing.T) {
	for name, row := range map[string]struct{ body, code, names string }{
		"Unknown":          {order(with("/amounts", 1)), "unknown_member", "/amounts"},
		"UnknownNested":    {order(with("/sender/bic", "X")), "unknown_member", "/sender/bic"},
		"OtherCase":        {order(with("/Amount", 1)), "unknown_member", "/Amount"},
		"OurOwn":           {order(with("/status", "sent")), "unknown_member", "/status"},
		"EmptyName":        {order(with("/", 1)), "unknown_member", "/"},
		"Duplicate":        {`{"amount":1,"amount":2}`, "duplicate_member", "/amount"},
		"DuplicateSame":    {`{"amount":1,"amount":1}`, "duplicate_member", "/amount"},
		"DuplicateEscaped": {`{"amount":1,"amo\u0075nt":1}`, "duplicate_member", "/amount"},
		"DuplicateNested":  {`{"sender":{"type":"a","type":"b"}}`, "duplicate_member", "/sender/type"},
		"DuplicateObject":  {`{"sender":{},"sender":{}}`, "duplicate_member", "/sender"},
		"DuplicateSkipped": {`{"amount":{"a":1,"a":1}}`, "duplicate_member", "/amount/a"},
		"LongName":         {order(with("/"+strings.Repeat("n", 60_000), 1)), "unknown_member", "/nnn"},
	} {
		t.Run(name, func(t *testing.T) {
			if p := c.post(t, newKey(), row.body).wantProblem(t, row.code); !strings.Contains(p.Detail, row.names) {
				t.Errorf("got detail %q, want %s in it", p.Detail, row.names)
			}
		})
	}
}

// testMediaType sends a valid body with other media types.
func (c *contract) testMediaType(t *testing.T) {
	for name, mediaType := range map[string]string{
		"Text": "text/plain", "Form": "application/x-www-form-urlencoded",
		"Multipart": "multipart/form-data; boundary=x", "Longer": "application/jsonx",
		"Suffix": "application/vnd.api+json", "Any": "*/*", "NoType": "json", "Broken": "application/json; charset",
		"Empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			c.createAs(t, newKey(), order(), mediaType).wantProblem(t, "unsupported_media_type")
		})
	}
	t.Run("None", func(t *testing.T) {
		c.do(t, http.MethodPost, "/payments", order(), "Idempotency-Key", newKey()).wantProblem(t,
			"unsupported_media_type")
	})
}

// testBodySize sends a body of exactly bodyMax, and one byte more, with and without Content-Length.
func (c *contract) testBodySize(t *testing.T) {
	largest := order() + strings.Repeat(" ", bodyMax-len(order()))
	c.create(t, newKey(), largest)
	c.post(t, newKey(), largest+" ").wantProblem(t, "body_too_large")
	chunked := func(body string) *response {
		return c.stream(t, http.MethodPost, "/payments", io.MultiReader(strings.NewReader(body)), "Content-Type",
			"application/json", "Idempotency-Key", newKey())
	}
	chunked(largest).want(t, http.StatusAccepted)
	chunked(largest+" ").wantProblem(t, "body_too_large")
}

// inWords lists the faults that the document describes only in words: the arithmetic of an IBAN,
// and that a text must have a visible character.
var inWords = map[string]bool{
	"/receiver/number iban_country": true, "/receiver/number iban_length": true, "/receiver/number iban_checksum": true,
	"/receiver/number iban_format": true,
}

const zeroWidth = "\u200b"

// testInvalid sends every kind of invalid member. What the service refuses, the schema of the
// document refuses, too. So a client can check by the schema first.
func (c *contract) testInvalid(t *testing.T) {
	// The key is a pointer and a code. The values are refused with them.
	rows := map[string][]any{
		"/amount type":               {"25687", true, nil, []int{1}, map[string]int{}},
		"/currency type":             {840, nil, []string{"USD"}},
		"/currency required":         {""},
		"/currency unknown":          {"usd", "XXQ", "US", "USDD", " USD", "\u20ac"},
		"/originator type":           {"Y", 1, nil, []string{}},
		"/originator/id required":    {"", " ", zeroWidth},
		"/originator/id length":      {strings.Repeat("7", 36)},
		"/originator/id type":        {567, nil},
		"/originator/id characters":  {"\uff17", "7" + zeroWidth, "Zo\u00eb", "7\u00ad7"},
		"/sender/number characters":  {"\u0667\u0666", "765543322" + zeroWidth, "765\u200f543322"},
		"/beneficiary/name required": {"\u3164", "\ufe0f"},
		"/beneficiary/name length":   {strings.Repeat("\u6f22", 141)},
		"/beneficiary/name characters": {
			"a\x00b", "a\nb", "a\u0085b", "a\u2028b", "a\u202eb", "a\u2066b", "a\x7fb",
			"a\u3164", "a\u00adb", "a\u200bb", "a\uffffb",
		},
		"/sender/type format":            {"Checking", "1st", "a b", "_a", "sparb\u00fcchse", "IBAN"},
		"/sender/type length":            {strings.Repeat("a", 36)},
		"/sender/number length":          {strings.Repeat("1", 35)},
		"/receiver type":                 {"DE89370400440532013000"},
		"/receiver/number iban_country":  {"ZZ89370400440532013000", "D"},
		"/receiver/number iban_length":   {"DE8937040044053201300"},
		"/receiver/number iban_checksum": {"DE88370400440532013000"},
		"/receiver/number iban_format":   {"DE89-704004405320130-0"},
		"/reference required":            {"", "\t"},
		"/reference length":              {strings.Repeat("R", 36)},
		"/reference type":                {nil, 7},
		"/reference characters":          {"INV\u20297"},
	}
	for _, fault := range slices.Sorted(maps.Keys(rows)) {
		t.Run(fault, func(t *testing.T) {
			pointer, _, _ := strings.Cut(fault, " ")
			for _, value := range rows[fault] {
				body := order(with(pointer, value))
				c.post(t, newKey(), body).wantProblem(t, "invalid_payment").wantFaults(t, fault)
				if err := c.judge.request(body); err == nil && !inWords[fault] && value != zeroWidth {
					t.Errorf("the service refuses %q: got no error from the document's schema, want one", value)
				}
			}
		})
	}
	for _, pointer := range []string{
		"/amount", "/currency", "/originator/id", "/originator/name", "/beneficiary/id",
		"/sender/type", "/receiver/number",
	} {
		t.Run("Absent"+pointer, func(t *testing.T) {
			c.post(t, newKey(), order(without(pointer))).wantProblem(t, "invalid_payment").wantFaults(t,
				pointer+" required")
		})
	}
}

// testAmount sends numbers in several notations. An amount must be written as an integer: 12.50 and
// 1e3 are refused, also where the value is whole.
func (c *contract) testAmount(t *testing.T) {
	for literal, code := range map[string]string{
		"12.50": "integer", "1e3": "integer", "1E3": "integer", "100.0": "integer", "1e400": "integer",
		"-1.5": "integer", "1.0e-7": "integer",
		"0": "range", "-0": "range", "-1": "range", "1000000000000000": "range", "9223372036854775807": "range",
		"99999999999999999999999999": "range",
	} {
		t.Run(literal, func(t *testing.T) {
			c.post(t, newKey(), order(with("/amount", json.RawMessage(literal)))).wantProblem(t,
				"invalid_payment").wantFaults(t, "/amount "+code)
		})
	}
}

// testAllFaults expects all faults in one response, one for each member, and none of the values.
func (c *contract) testAllFaults(t *testing.T) {
	for name, row := range map[string]struct {
		body string
		want []string
	}{
		"Nothing": {"{}", []string{
			"/amount required", "/currency required", "/originator/id required", "/originator/name required",
			"/beneficiary/id required",
			"/beneficiary/name required", "/sender/type required", "/sender/number required", "/receiver/type required",
			"/receiver/number required",
		}},
		"Mixed": {
			order(with("/amount", json.RawMessage("12.50")), with("/currency", "XXQ"), with("/originator/name", " "),
				with("/sender", "Ada's purse"),
				with("/receiver/number", "DE88370400440532013000"), with("/reference", "Ada's\x07bell")),
			[]string{
				"/sender type", "/amount integer", "/currency unknown", "/originator/name required",
				"/receiver/number iban_checksum", "/reference characters",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.post(t, newKey(), row.body)
			p := a.wantProblem(t, "invalid_payment")
			p.wantFaults(t, row.want...)
			for _, value := range append([]string{"Ada's", "12.50", "DE88"}, secrets...) {
				if strings.Contains(string(a.body), value) {
					t.Errorf("got %q in the problem, want no values: %s", value, a.body)
				}
			}
		})
	}
}

// testNothingStored shows that a refused create leaves its key unused, for every reason of refusal.
func (c *contract) testNothingStored(t *testing.T) {
	for code, refused := range map[string]string{
		"malformed_json": "{", "unknown_member": order(with("/x", 1)), "duplicate_member": `{"amount":1,"amount":1}`,
		"invalid_payment": order(with("/amount", 0)), "body_too_large": strings.Repeat(" ", bodyMax+1),
	} {
		t.Run(code, func(t *testing.T) {
			key := newKey()
			c.post(t, key, refused).wantProblem(t, code)
			c.get(t, "/payments?idempotency_key="+key).wantProblem(t, "not_found")
			c.create(t, key, order()).wantHeaders(t, "Idempotent-Replayed", "")
		})
	}
}
