package payclient

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

// What is encoded by hand is what the contract's JSON is, judged by the standard library; and samples of few account holders are of those only.
func TestAppendRequest(t *testing.T) {
	odd := Request{Amount: -1, Currency: `"\`, Originator: Party{"\x00\n", "</script>"}, Beneficiary: Party{"", "日本 \u2028"}, Sender: Account{"a", "b"}, Receiver: Account{"c", "d"}}
	requests := []Request{odd, testRequest()}
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		requests = append(requests, Sample(random))
	}
	for _, want := range requests {
		text, err := appendRequest(nil, want)
		var got Request
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.DisallowUnknownFields()
		if err != nil || d.Decode(&got) != nil || got != want {
			t.Errorf("%s is %+v, want %+v; %v", text, got, want, err)
		}
	}
	if text, err := appendRequest(nil, Request{Currency: "\xff"}); err == nil {
		t.Errorf("what is no UTF-8 is sent as %s", text)
	}
}

func TestSampleOf(t *testing.T) {
	random, seen := rand.New(rand.NewPCG(5, 6)), map[string]bool{}
	for range 200 {
		q := SampleOf(random, 3)
		seen[q.Originator.ID], seen[q.Beneficiary.ID] = true, true
		if q.Originator == q.Beneficiary {
			t.Fatalf("%+v", q)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%v", seen)
	}
}

// The short way and the long one read the same, and what is no payment is none by either.
func TestDecodeState(t *testing.T) {
	for body, want := range map[string]state{
		`{"id":"0198c5e4","status":"created","final":false}`:                {"0198c5e4", "created"},
		`{"id":"0198c5e4","status":"sent"}`:                                 {"0198c5e4", "sent"},
		`{ "status": "sent", "more": [1], "id": "0198c5e4" }`:               {"0198c5e4", "sent"},
		`{"id":"a\u0062","status":"sent"}`:                                  {"ab", "sent"},
		`{"id":"a","status":"s\"t"}`:                                        {"a", `s"t`},
		`{"id":"` + strings.Repeat("x", aheadMax) + `","status":"created"}`: {strings.Repeat("x", aheadMax), "created"},
		`{"id":"","status":"sent"}`:                                         {},
		`{"id":"a","status":""}`:                                            {},
		`{"id":"a"}`:                                                        {},
		`{"id":"a","final":true,"other":{"x":"","status":"sent"}}`:          {},
		`{"id":"a`: {}, `[]`: {}, ``: {},
	} {
		got, err := decodeState(answer{body: []byte(body)})
		if got != want || (err == nil) != (want != state{}) {
			t.Errorf("%s: %+v, %v; want %+v", body, got, err, want)
		}
	}
}
