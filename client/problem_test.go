package client

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestProblemError_Error(t *testing.T) {
	full := readProblem(422, http.Header{}, []byte(`{"type":"/problems/invalid_payment","status":200,
		"code":"invalid_payment","detail":"2 fields are wrong","request_id":"r-1","errors":[
		{"pointer":"/amount","code":"too_small","detail":"at least 1"},{"pointer":"/currency","code":"unknown"}]}`))
	want := "422 invalid_payment: 2 fields are wrong [request r-1]\n" +
		"  /amount: too_small: at least 1\n  /currency: unknown"
	if full.Error() != want || full.Status != 422 {
		t.Errorf("got  %q\nwant %q", full.Error(), want)
	}
	body := "<h1>\x1b[31mBad\nGateway</h1>" + strings.Repeat("x", 9999)
	text := readProblem(502, http.Header{"X-Request-Id": {"r-2"}}, []byte(body)).Error()
	if !strings.HasPrefix(text, "502 Bad Gateway: <h1> [31mBad Gateway</h1>xxx") ||
		!strings.HasSuffix(text, "x… [request r-2]") || strings.ContainsAny(text, "\x1b\n") || len(text) > 300 {
		t.Errorf("got %q", text)
	}
	if text := readProblem(401, http.Header{}, nil).Error(); text != "401 Unauthorized" {
		t.Errorf("got %q, want 401 Unauthorized", text)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"0": 0, "2": 2 * time.Second, "86400": retryAfterMax,
		"Mon, 23 Nov 2026 12:00:04 GMT": 4 * time.Second,
		"Mon, 23 Nov 2026 11:59:00 GMT": 0,
		"Tue, 24 Nov 2026 12:00:00 GMT": retryAfterMax,
	} {
		if got, ok := retryAfter(v, now); got != want || !ok {
			t.Errorf("%q: got %v, %t, want %v", v, got, ok, want)
		}
	}
	for _, v := range []string{"", "-1", "soon", "99999999999999999999"} {
		if got, ok := retryAfter(v, now); got != 0 || ok {
			t.Errorf("%q: got %v, %t, want none", v, got, ok)
		}
	}
}
