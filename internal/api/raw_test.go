package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
)

// rawResponse is a response over a socket.
type rawResponse struct {
	status int
	body   string
	// closes reports that the server ends the connection.
	closes bool
}

// rawCreate sends the rest of a create over a connection, ends the sending side if half is set, and
// returns the response.
func rawCreate(t *testing.T, address, rest string, half bool) rawResponse {
	t.Helper()
	key, err := payment.NewAPIKey("live")
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, address)
	_, err = fmt.Fprintf(conn, "POST /payments HTTP/1.1\r\nHost: paylatch\r\nAuthorization: Bearer %s\r\n"+
		"Idempotency-Key: %s\r\nContent-Type: application/json\r\n%s", key.Reveal(), uuid.NewString(), rest)
	if err != nil {
		t.Fatal(err)
	}
	if half {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rawResponse{response.StatusCode, string(body), response.Close}
}

// TestCreate_Chunks: chunks that are malformed are refused for good. A body that breaks off may be
// sent again.
func TestCreate_Chunks(t *testing.T) {
	t.Parallel()
	s, _ := newTestServer(t)
	address := served(t, s)
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	whole := fmt.Sprintf("%x\r\n%s\r\n", len(sampleBody), sampleBody)
	long := strings.Repeat("1", 64<<10)
	for name, row := range map[string]struct {
		rest   string
		half   bool
		status int
		code   string
	}{
		"Whole":       {chunked + whole + "0\r\n\r\n", false, 202, ""},
		"Trailer":     {chunked + whole + "0\r\nX-Sum: 1\r\n\r\n", false, 202, ""},
		"NoSize":      {chunked + "zz\r\n{}\r\n0\r\n\r\n", false, 400, "malformed_json"},
		"HugeSize":    {chunked + "fffffffffffffffff\r\n{}\r\n0\r\n\r\n", false, 400, "malformed_json"},
		"NoEnd":       {chunked + "2\r\n{}}}\r\n0\r\n\r\n", false, 400, "malformed_json"},
		"LongTrailer": {chunked + whole + "0\r\nX-Sum: " + long + "\r\n\r\n", false, 400, "malformed_json"},
		"BadTrailer":  {chunked + whole + "0\r\nno colon\r\n\r\n", false, 400, "malformed_json"},
		"BrokenOff":   {chunked + "ff\r\n{", true, 408, "request_timeout"},
		"NoTrailer":   {chunked + whole + "0\r\n", true, 408, "request_timeout"},
		"HalfLength":  {"Content-Length: 100\r\n\r\n{", true, 408, "request_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			got := rawCreate(t, address, row.rest, row.half)
			if got.status != row.status || !strings.Contains(got.body, row.code) {
				t.Errorf("got %d and %s, want %d and %s", got.status, got.body, row.status, row.code)
			}
		})
	}
}

// TestServe_TwoLengths: a request with two lengths for its body ends its connection, so that no
// intermediary can take the rest for another request.
func TestServe_TwoLengths(t *testing.T) {
	t.Parallel()
	s, _ := newTestServer(t)
	address := served(t, s)
	whole := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(sampleBody), sampleBody)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(sampleBody))
	for name, row := range map[string]struct {
		rest   string
		closed bool
	}{
		"Both":    {length + "Transfer-Encoding: chunked\r\n\r\n" + whole, true},
		"Chunked": {"Transfer-Encoding: chunked\r\n\r\n" + whole, true},
		"Length":  {length + "\r\n" + sampleBody, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := rawCreate(t, address, row.rest, false)
			if got.status != http.StatusAccepted || got.closes != row.closed {
				t.Errorf("got %d, and the connection ends: %t; want 202 and %t", got.status, got.closes, row.closed)
			}
		})
	}
}

// TestServe_Safe: no response may be taken for another type, and no cache keeps a payment or a
// problem.
func TestServe_Safe(t *testing.T) {
	t.Parallel()
	s, memory := newTestServer(t)
	s.readiness.checkOnce(t.Context())
	close(s.readiness.first)
	path := "/payments/" + memory.stored.ID.String()
	for target, cacheControl := range map[string]string{
		path: "no-store", "/payments?idempotency_key=k": "no-store", "/payments": "no-store", "/none": "no-store",
		"/livez": "no-store", "/readyz": "no-store", "/problems/none": "no-store",
		"/problems/internal": "", "/openapi.json": "public, max-age=3600",
	} {
		w := do(t, s, http.MethodGet, target, "")
		if got := w.Header().Get("Cache-Control"); got != cacheControl {
			t.Errorf("%s: got Cache-Control %q, want %q", target, got, cacheControl)
		}
		if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: got X-Content-Type-Options %q, want nosniff", target, got)
		}
	}
	for _, key := range []string{"Authorization", "Idempotency-Key"} {
		w := do(t, s, http.MethodPost, "/payments", sampleBody, key, "")
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("a create without %s: got Cache-Control %q, want no-store", key, got)
		}
	}
}
