package payclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"
)

// answerMax bounds what is read of an answer. A payment is below 8 KiB by contract.
const answerMax = 64 << 10

// exchange is one request of the contract, whatever server it goes to and however often it is sent.
type exchange struct {
	method string
	path   string // with the query
	key    string // idempotency key of a create
	body   []byte
	hold   time.Duration // whole seconds that the answer may be held
	want   int           // the status that means success; a create that is held may also be answered 200
	once   bool          // no retries
}

// answer is a success, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// replayed tells whether the service knew the key of a create already.
func (a answer) replayed() bool { return a.header.Get("Idempotent-Replayed") == "true" }

// attempt sends the request once to one server. It fails with a *Problem when the service says no, with a
// *timeoutError when it says nothing in time, with a *strangeAnswerError when it does not speak the contract. It has its own time, and never longer
// than until the whole call's deadline.
func (c *Client) attempt(ctx context.Context, server string, e exchange, deadline time.Time) (answer, error) {
	limit := min(c.attemptTimeout+e.hold, time.Until(deadline))
	tryCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a, err := c.send(tryCtx, server, e)
	if err != nil && tryCtx.Err() != nil && ctx.Err() == nil {
		return answer{}, &timeoutError{server: server, after: limit, notSent: !mayHaveArrived(err)}
	}
	return a, err
}

func (c *Client) send(ctx context.Context, server string, e exchange) (answer, error) {
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := c.request(ctx, server, e)
	if err != nil {
		return answer{}, err
	}
	res, err := c.http.Do(req)
	if err != nil && c.owned && !connected.Load() {
		// Only of our own transport is it known that it reports each connection before it writes to it.
		return answer{}, &notSentError{err}
	}
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	// Read to the end, or the connection cannot be used again.
	body, err := io.ReadAll(io.LimitReader(res.Body, answerMax+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer of %s: %w", server, err)
	}
	if len(body) > answerMax {
		return answer{}, &strangeAnswerError{status: res.StatusCode, why: "it is longer than " + strconv.Itoa(answerMax) + " bytes"}
	}
	switch {
	case res.StatusCode == e.want || e.hold > 0 && res.StatusCode == http.StatusOK:
		return answer{status: res.StatusCode, header: res.Header, body: body}, nil
	case res.StatusCode >= http.StatusBadRequest:
		return answer{}, readProblem(res.StatusCode, res.Header, body)
	default:
		return answer{}, &strangeAnswerError{status: res.StatusCode, why: "the contract has no such answer here"}
	}
}

// Values of headers that all requests share; nobody changes them.
var (
	acceptHeader = []string{"application/json, application/problem+json"}
	agentHeader  = []string{"payclient"}
	jsonHeader   = []string{"application/json"}
)

func (c *Client) request(ctx context.Context, server string, e exchange) (*http.Request, error) {
	var body io.Reader
	if e.body != nil {
		body = bytes.NewReader(e.body)
	}
	req, err := http.NewRequestWithContext(ctx, e.method, server+e.path, body)
	if err != nil {
		return nil, err
	}
	// The transport sends a request with an Idempotency-Key again by itself when a kept connection breaks. Such a
	// repetition would not be counted and would not reach the next server, so that it is ours to make: without
	// GetBody the transport cannot (net/http: Request.isReplayable).
	req.GetBody = nil
	req.Header = http.Header{"Authorization": c.authorization, "Accept": acceptHeader, "User-Agent": agentHeader}
	if e.body != nil {
		req.Header["Content-Type"] = jsonHeader
	}
	if e.key != "" {
		req.Header["Idempotency-Key"] = []string{e.key}
	}
	if e.hold > 0 {
		req.Header.Set("Prefer", "wait="+strconv.Itoa(int(e.hold/time.Second)))
	}
	return req, nil
}
