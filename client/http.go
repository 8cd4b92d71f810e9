package client

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// dialTimeout reports a dead host before the attempt itself is over: then nothing was sent.
	dialTimeout = 2 * time.Second
	// idleConnTimeout is below the idle time-outs that are usual for servers. So the client closes
	// first, and few requests meet a connection that the server is closing.
	idleConnTimeout = 30 * time.Second
)

// parseServer checks a base address. Paths can be appended to what it returns.
func parseServer(address string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("server %q: an address such as http://127.0.0.1:8080 is needed", address)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("server %q: only scheme, host, port and path are allowed", u.Redacted())
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// newHTTPClient copies the caller's client, or makes one with as many connections as are needed.
func newHTTPClient(given *http.Client, secured *tls.Config, connections, servers int) (
	client *http.Client, own bool,
) {
	if given != nil {
		other := *given
		other.CheckRedirect = refuseRedirect
		return &other, false
	}
	return &http.Client{
		CheckRedirect: refuseRedirect,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: idleConnTimeout}).DialContext,
			TLSClientConfig:     secured.Clone(),
			TLSHandshakeTimeout: dialTimeout,
			ForceAttemptHTTP2:   true,
			// The default of 2 would close and reopen a connection for nearly each request under
			// load.
			MaxIdleConnsPerHost: connections,
			MaxIdleConns:        connections * servers,
			// Twice the number in use: attempts that timed out may still be closing theirs.
			MaxConnsPerHost:        2 * connections,
			IdleConnTimeout:        idleConnTimeout,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}, true
}

// refuseRedirect keeps the API key and the payment from being sent to another host.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
