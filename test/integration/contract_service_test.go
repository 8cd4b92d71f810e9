package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/api"
)

func escaped(s string) string { return url.QueryEscape(s) }

// testNotFound requests what does not exist. A payment has one path: other spellings of its id are
// unknown ids.
func (c *contract) testNotFound(t *testing.T) {
	path := c.create(t, newKey(), order()).path()
	id := strings.TrimPrefix(path, "/payments/")
	for _, target := range []string{
		"/", "/payment", "/payments/", path + "/", "/" + path, "/payments/../livez", "/payments/./" + id, "/metrics",
		"/debug/pprof/", "/problems", "/problems/",
		"/payments/" + strings.ToUpper(id), "/payments/%7B" + id + "%7D", "/payments/urn:uuid:" + id,
		"/payments/" + strings.ReplaceAll(id, "-", ""),
		"/payments/7", "/payments/%00", "/payments/%ff", "/payments/" + strings.Repeat("7", 4000),
		"/payments/" + newKey(), path + "%20", "/problems/a%2Fb",
	} {
		t.Run(target[:min(len(target), 60)], func(t *testing.T) { c.get(t, target).wantProblem(t, "not_found") })
	}
	t.Run("OutsideWithoutKey", func(t *testing.T) {
		c.get(t, "/payment", "Authorization", "").wantProblem(t, "not_found")
	})
}

// testMethod tries the methods that a path does not have. Allow lists those that it has.
func (c *contract) testMethod(t *testing.T) {
	const read = "GET, HEAD"
	for path, allow := range map[string]string{
		"/payments": read + ", POST", "/payments/" + newKey(): read, "/livez": read, "/readyz": read,
		"/openapi.json": read, "/problems/not_found": read,
	} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get"} {
			if strings.Contains(allow, method) {
				continue
			}
			t.Run(method+path, func(t *testing.T) {
				a := c.do(t, method, path, "", "Authorization", "")
				a.wantProblem(t, "method_not_allowed")
				a.wantHeaders(t, "Allow", allow)
			})
		}
	}
}

// testHead expects for HEAD the response to GET without its body.
func (c *contract) testHead(t *testing.T) {
	key := newKey()
	path := c.create(t, key, order()).path()
	c.sent(t, path)
	for _, target := range []string{
		path, "/payments?idempotency_key=" + key, "/payments", "/payments/7", "/livez", "/readyz", "/openapi.json",
		"/problems/not_found", "/problems/none", "/payment",
	} {
		t.Run(target, func(t *testing.T) {
			const id = "head-and-get"
			head, get := c.do(t, http.MethodHead, target, "", "X-Request-Id", id), c.get(t, target, "X-Request-Id", id)
			head.want(t, get.status)
			for _, header := range []string{
				"Content-Type", "ETag", "Content-Location", "X-Request-Id", "Cache-Control",
				"Vary",
			} {
				head.wantHeaders(t, header, get.header.Get(header))
			}
		})
	}
}

// testRequestID expects the client's own id if it is valid in a header and a log line, and a new
// UUIDv7 otherwise.
func (c *contract) testRequestID(t *testing.T) {
	for name, id := range map[string]string{
		"Short": "7", "Longest": strings.Repeat("i", 128),
		"Visible": `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~`,
	} {
		t.Run("Taken/"+name, func(t *testing.T) {
			// The paths give a success and problems. The judge compares the ids of header and
			// problem.
			for _, target := range []string{"/livez", "/payments", "/payment"} {
				c.get(t, target, "X-Request-Id", id).wantHeaders(t, "X-Request-Id", id)
			}
		})
	}
	for name, id := range map[string]string{
		"None": "", "TooLong": strings.Repeat("i", 129), "Blank": "a b",
		"NotASCII": "\u00e9", "Tab": "a\tb",
	} {
		t.Run("Made/"+name, func(t *testing.T) {
			seen := map[string]bool{}
			for _, target := range []string{"/livez", "/livez", "/payments", "/payment"} {
				made := c.get(t, target, "X-Request-Id", id).header.Get("X-Request-Id")
				if u, err := uuid.Parse(made); err != nil || u.Version() != 7 || seen[made] {
					t.Errorf("got request id %q, want a new UUIDv7", made)
				}
				seen[made] = true
			}
		})
	}
}

// testService requests what the service says about itself, which needs no key.
func (c *contract) testService(t *testing.T) {
	for path, want := range map[string]string{
		"/livez": "{\"status\":\"live\"}\n", "/readyz": "{\"status\":\"ready\"}\n",
		"/openapi.json": string(api.OpenAPI),
	} {
		a := c.get(t, path, "Authorization", "")
		a.want(t, http.StatusOK)
		a.wantHeaders(t, "Content-Type", "application/json")
		if string(a.body) != want {
			t.Errorf("%s: got %.200s, want %.200s", path, a.body, want)
		}
	}
}

// testProblems follows the type of every problem to its explanation.
func (c *contract) testProblems(t *testing.T) {
	for code, status := range statusOf {
		a := c.get(t, "/problems/"+code, "Authorization", "")
		a.want(t, http.StatusOK)
		a.wantHeaders(t, "Content-Type", "text/plain; charset=utf-8")
		if !bytes.HasPrefix(a.body, fmt.Appendf(nil, "%s (%d)\n", code, status)) {
			t.Errorf("%s: got the explanation %q, want one that names the code", code, a.body)
		}
	}
	p := c.get(t, "/problems/none", "Authorization", "").wantProblem(t, "not_found")
	for code := range statusOf {
		if !strings.Contains(p.Detail, code) {
			t.Errorf("want %s in the list of codes, got %s", code, p.Detail)
		}
	}
}

// testNotHTTP sends requests that Go's HTTP server refuses before our handler runs. The document
// describes these responses, too.
func (c *contract) testNotHTTP(t *testing.T) {
	for name, row := range map[string]struct {
		method, target, header string
		status                 int
	}{
		"ControlInHeader":     {"GET", "/livez", "X-Request-Id: a\x01b", http.StatusBadRequest},
		"ControlInKey":        {"POST", "/payments", "Idempotency-Key: a\x7fb", http.StatusBadRequest},
		"BadHeaderName":       {"GET", "/payments/7", "No Name: x", http.StatusBadRequest},
		"ControlInPreference": {"GET", "/payments?idempotency_key=k", "Prefer: \x00", http.StatusBadRequest},
		"HeadersTooLarge": {
			"GET", "/readyz", "X-Large: " + strings.Repeat("x", 32<<10),
			http.StatusRequestHeaderFieldsTooLarge,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.raw(t, row.method, row.target, row.header)
			a.want(t, row.status)
			a.wantHeaders(t, "X-Request-Id", "")
		})
	}
}

// testHalfABody ends the request in the middle of a body. The service does not know the rest, so
// the refusal is temporary.
func (c *contract) testHalfABody(t *testing.T) {
	header := fmt.Sprintf("Authorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Idempotency-Key: half\r\nContent-Length: 100", c.key)
	c.rawBody(t, "POST", "/payments", header, `{"amount":`).wantProblem(t, "request_timeout")
}

// raw makes a request that no HTTP client would make.
func (c *contract) raw(t *testing.T, method, target, header string) *response {
	t.Helper()
	return c.rawBody(t, method, target, header, "")
}

// rawBody is raw with a body, after which nothing more is sent.
func (c *contract) rawBody(t *testing.T, method, target, header, body string) *response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: paylatch\r\n%s\r\n\r\n%s", method, target, header,
		body); err != nil {
		t.Fatal(err)
	}
	if body != "" {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // The caller reads it.
	if err != nil {
		t.Fatal(err)
	}
	return c.judged(t, method, target, response)
}
