package client

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

// responseBytesMax bounds what is read of a response. A payment has less than 8 KiB.
const responseBytesMax = 64 << 10

// request is one request of the API, independent of server and attempt.
type request struct {
	method string
	path   string // With the query.
	key    string // The idempotency key of a create.
	body   []byte
	// hold is the time for which the service may hold the response, in whole seconds.
	hold time.Duration
	// success is the expected status. A held create may also get 200.
	success int
}

// response is a success, read to its end.
type response struct {
	status int
	header http.Header
	body   []byte
}

// Header values that all requests share. They are never changed.
var (
	acceptHeader    = []string{"application/json, application/problem+json"}
	userAgentHeader = []string{"payclient"}
	jsonHeader      = []string{"application/json"}
)

// attempt sends a request once to one server. It has its own time-out, and never more time than is
// left until the deadline of the call.
func (c *Client) attempt(ctx context.Context, server string, r request, deadline time.Time) (response, error) {
	limit := min(c.attemptTimeout+r.hold, time.Until(deadline))
	attemptCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	got, err := c.send(attemptCtx, server, r)
	if err != nil && attemptCtx.Err() != nil && ctx.Err() == nil {
		return response{}, &TimeoutError{Server: server, After: limit, notSent: !mayHaveArrived(err)}
	}
	return got, err
}

func (c *Client) send(ctx context.Context, server string, r request) (response, error) {
	var connected atomic.Bool
	req, err := c.newRequest(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}), server, r)
	if err != nil {
		return response{}, err
	}
	res, err := c.http.Do(req)
	if err != nil && c.ownTransport && !connected.Load() {
		// Only our own transport is known to report each connection before it writes to it.
		return response{}, &connectError{err}
	}
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	// Read to the end: otherwise the connection cannot be used again.
	body, err := io.ReadAll(io.LimitReader(res.Body, responseBytesMax+1))
	if err != nil {
		return response{}, fmt.Errorf("read the response of %s: %w", server, err)
	}
	if len(body) > responseBytesMax {
		reason := "the body is longer than " + strconv.Itoa(responseBytesMax) + " bytes"
		return response{}, &ResponseError{Status: res.StatusCode, Reason: reason}
	}
	switch {
	case res.StatusCode == r.success || r.hold > 0 && res.StatusCode == http.StatusOK:
		return response{status: res.StatusCode, header: res.Header, body: body}, nil
	case res.StatusCode >= http.StatusBadRequest:
		return response{}, readProblem(res.StatusCode, res.Header, body)
	default:
		return response{}, &ResponseError{Status: res.StatusCode, Reason: "the API has no such status here"}
	}
}

func (c *Client) newRequest(ctx context.Context, server string, r request) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, server+r.path, body)
	if err != nil {
		return nil, err
	}
	// The transport would repeat a request with an Idempotency-Key when a kept connection breaks.
	// That would not be counted, and would not go to the next server. Without GetBody it cannot
	// (net/http, Request.isReplayable).
	req.GetBody = nil
	req.Header = http.Header{"Accept": acceptHeader, "User-Agent": userAgentHeader}
	if c.authorization != nil {
		req.Header["Authorization"] = c.authorization
	}
	if r.body != nil {
		req.Header["Content-Type"] = jsonHeader
	}
	if r.key != "" {
		req.Header["Idempotency-Key"] = []string{r.key}
	}
	if r.hold > 0 {
		req.Header.Set("Prefer", "wait="+strconv.Itoa(int(r.hold/time.Second)))
	}
	return req, nil
}
