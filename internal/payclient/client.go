// Package payclient is the client of Paylatch's HTTP contract: it creates payments, asks where they are, and
// simulates requests for demonstrations and load.
//
// It promises that one call of Create makes at most one payment, however often it has to send the request: every
// attempt carries the same idempotency key. When it cannot tell whether the payment was taken it says so with
// UnknownError and never folds that into "failed". It knows only the contract: its wire types are its own, and it
// shares no code with the service, so that it is also a check from outside. What a valid payment is, is for the
// service to judge.
package payclient

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// defaultAttemptTimeout is long enough for a commit on a busy database, short enough to reach another replica
	// while a person still waits.
	defaultAttemptTimeout = 5 * time.Second
	// defaultRetryFor outlasts a replica's restart and a database fail-over of the usual kind.
	defaultRetryFor = 30 * time.Second
	// defaultConnections serves a simulation; a load test names its own number.
	defaultConnections = 16
	// dialTimeout makes a dead host a fault that surely sent nothing, well before the attempt itself is over.
	dialTimeout = 2 * time.Second
	// idleConnTimeout stays below the idle time-outs usual for servers, so that the client closes first and a
	// request rarely meets a connection that the server is just closing.
	idleConnTimeout = 30 * time.Second
)

// Config is what a Client needs. Zero durations and counts mean the defaults.
type Config struct {
	Servers []string // base addresses such as http://127.0.0.1:8080; fresh requests go round them
	Key     string   // the tenant's API key

	AttemptTimeout time.Duration // one request and its answer; 5 s. A held read gets what it asked for on top
	RetryFor       time.Duration // one call with all its retries; 30 s
	BackoffFirst   time.Duration // pause before the first retry, doubled for each further one; 100 ms
	BackoffMax     time.Duration // the longest such pause; 2 s

	Connections int          // requests that the caller means to have in flight at once; 16
	HTTPClient  *http.Client // optional; its redirects are never followed
}

// Client talks to one or several replicas of Paylatch. It is safe for concurrent use.
type Client struct {
	servers        []string
	key            string
	authorization  []string // the header that shows the key
	attemptTimeout time.Duration
	retryFor       time.Duration
	backoffFirst   time.Duration
	backoffMax     time.Duration

	http  *http.Client
	owned bool          // the transport is ours, and Close may close its connections
	next  atomic.Uint64 // fresh requests so far: the round robin
}

// New checks the configuration, tells all faults together, and contacts nobody.
func New(cfg Config) (*Client, error) {
	var faults []error
	servers := make([]string, 0, len(cfg.Servers))
	for _, s := range cfg.Servers {
		server, err := parseServer(s)
		if err != nil {
			faults = append(faults, err)
		}
		servers = append(servers, server)
	}
	if len(servers) == 0 {
		faults = append(faults, errors.New("servers: at least one is needed"))
	}
	if err := checkAPIKey(cfg.Key); err != nil {
		faults = append(faults, err)
	}
	c := &Client{servers: servers, key: cfg.Key, authorization: []string{"Bearer " + cfg.Key}}
	for _, d := range []struct {
		name      string
		value     time.Duration
		otherwise time.Duration
		into      *time.Duration
	}{
		{"attempt timeout", cfg.AttemptTimeout, defaultAttemptTimeout, &c.attemptTimeout},
		{"retry for", cfg.RetryFor, defaultRetryFor, &c.retryFor},
		{"backoff first", cfg.BackoffFirst, defaultBackoffFirst, &c.backoffFirst},
		{"backoff max", cfg.BackoffMax, defaultBackoffMax, &c.backoffMax},
	} {
		if d.value < 0 {
			faults = append(faults, fmt.Errorf("%s: %v is negative", d.name, d.value))
		}
		*d.into = d.value
		if d.value == 0 {
			*d.into = d.otherwise
		}
	}
	if cfg.Connections < 0 {
		faults = append(faults, fmt.Errorf("connections: %d is negative", cfg.Connections))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	c.http, c.owned = newHTTPClient(cfg, len(servers))
	return c, nil
}

// Close gives up idle connections. A transport that the caller brought along stays as it is.
func (c *Client) Close() {
	if c.owned {
		c.http.CloseIdleConnections()
	}
}

// parseServer accepts a base address that paths can be appended to.
func parseServer(s string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("server %q: an address such as http://127.0.0.1:8080 is needed", s)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("server %q: only scheme, host, port and path belong here", u.Redacted())
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// newHTTPClient makes a client whose connections fit the load, or takes the caller's.
func newHTTPClient(cfg Config, servers int) (client *http.Client, owned bool) {
	if cfg.HTTPClient != nil {
		own := *cfg.HTTPClient
		own.CheckRedirect = stayHere
		return &own, false
	}
	n := cfg.Connections
	if n == 0 {
		n = defaultConnections
	}
	return &http.Client{
		CheckRedirect: stayHere,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: idleConnTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			ForceAttemptHTTP2:   true,
			// The default of 2 would close and reopen a connection for nearly each request of a load.
			MaxIdleConnsPerHost: n,
			MaxIdleConns:        n * servers,
			// Twice the number in use: attempts given up may still be closing theirs.
			MaxConnsPerHost:        2 * n,
			IdleConnTimeout:        idleConnTimeout,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}, true
}

// stayHere keeps the API key and the payment from being sent to wherever an answer points.
func stayHere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// visibleASCII is what a header carries without quoting: 0x21 to 0x7E.
func visibleASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7E }) < 0
}
