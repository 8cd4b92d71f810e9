package client

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// defaultAttemptTimeout leaves time for a commit on a busy database. It is short enough to try
	// another replica while a person still waits.
	defaultAttemptTimeout = 5 * time.Second
	// defaultRetryFor outlasts the restart of a replica and a usual failover of the database.
	defaultRetryFor     = 30 * time.Second
	defaultBackoffFirst = 100 * time.Millisecond
	defaultBackoffMax   = 2 * time.Second
	// defaultAttemptsMax is never reached with the default pauses. It bounds a client with tiny
	// ones.
	defaultAttemptsMax = 100
	defaultConnections = 16
)

// Config configures a Client. Zero durations and counts mean the defaults.
type Config struct {
	// Servers are the base addresses of the replicas, such as http://127.0.0.1:8080. Calls are
	// spread over them in turn.
	Servers []string
	// APIKey is the secret of the tenant on whose behalf the client calls. It may be empty if TLS
	// has a client certificate, which then identifies the tenant.
	APIKey string
	// TLS is used for servers whose address begins with https. Nil trusts the authorities of the
	// system. RootCAs are those of a service with a certificate of a private authority, and
	// Certificates or GetClientCertificate show a client certificate.
	TLS *tls.Config

	// AttemptTimeout bounds one request with its response. The default is 5 s. A request that
	// has the service wait gets that time on top.
	AttemptTimeout time.Duration
	// RetryFor bounds one call with all its retries. The default is 30 s.
	RetryFor time.Duration
	// AttemptsMax bounds the attempts of one call. The default is 100; 1 means no retries.
	AttemptsMax int
	// BackoffFirst is the pause before the first retry. It doubles with each further one. The
	// default is 100 ms.
	BackoffFirst time.Duration
	// BackoffMax bounds the pause. The default is 2 s.
	BackoffMax time.Duration

	// Connections is the number of requests that the caller means to have in flight at once. The
	// default is 16.
	Connections int
	// HTTPClient replaces the client's own HTTP client, and TLS must be nil then: the transport of
	// this client has its own. Its redirects are never followed.
	HTTPClient *http.Client
}

// Client calls one or several replicas of Paylatch on behalf of one tenant. It is safe for
// concurrent use.
type Client struct {
	servers        []string
	apiKey         string
	authorization  []string // The header that carries the key.
	attemptTimeout time.Duration
	retryFor       time.Duration
	attemptsMax    int
	backoffFirst   time.Duration
	backoffMax     time.Duration

	http *http.Client
	// ownTransport reports that the transport was made here.
	ownTransport bool
	// calls counts the calls so far: each begins with the next server.
	calls *atomic.Uint64
}

// New returns a client. It reports all faults of the configuration together, and contacts no
// server.
func New(cfg Config) (*Client, error) {
	c := &Client{
		apiKey: cfg.APIKey, authorization: authorizationOf(cfg.APIKey), calls: new(atomic.Uint64),
		attemptTimeout: defaultAttemptTimeout, retryFor: defaultRetryFor, attemptsMax: defaultAttemptsMax,
		backoffFirst: defaultBackoffFirst, backoffMax: defaultBackoffMax,
	}
	faults := []error{c.setServers(cfg.Servers), cfg.checkCredentials()}
	connections := defaultConnections
	faults = append(faults,
		setPositive(&c.attemptTimeout, "attempt timeout", cfg.AttemptTimeout),
		setPositive(&c.retryFor, "retry for", cfg.RetryFor),
		setPositive(&c.attemptsMax, "attempts max", cfg.AttemptsMax),
		setPositive(&c.backoffFirst, "backoff first", cfg.BackoffFirst),
		setPositive(&c.backoffMax, "backoff max", cfg.BackoffMax),
		setPositive(&connections, "connections", cfg.Connections),
	)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	c.http, c.ownTransport = newHTTPClient(cfg.HTTPClient, cfg.TLS, connections, len(c.servers))
	return c, nil
}

// checkCredentials returns an error unless something identifies the tenant.
func (cfg Config) checkCredentials() error {
	var faults []error
	if cfg.TLS != nil && cfg.HTTPClient != nil {
		faults = append(faults, errors.New("TLS: the HTTP client that is given has a transport with its own"))
	}
	if cfg.APIKey != "" || !cfg.hasCertificate() {
		faults = append(faults, checkAPIKey(cfg.APIKey))
	}
	return errors.Join(faults...)
}

// hasCertificate reports whether the client shows a certificate.
func (cfg Config) hasCertificate() bool {
	return cfg.TLS != nil && (len(cfg.TLS.Certificates) > 0 || cfg.TLS.GetClientCertificate != nil)
}

// authorizationOf returns the header that carries the key; nil without a key.
func authorizationOf(apiKey string) []string {
	if apiKey == "" {
		return nil
	}
	return []string{"Bearer " + apiKey}
}

// setPositive sets a value unless it is 0, which means the default.
func setPositive[T int | time.Duration](into *T, name string, value T) error {
	if value < 0 {
		return fmt.Errorf("%s: %v is negative", name, value)
	}
	if value > 0 {
		*into = value
	}
	return nil
}

func (c *Client) setServers(addresses []string) error {
	if len(addresses) == 0 {
		return errors.New("servers: at least one is needed")
	}
	var faults []error
	for _, address := range addresses {
		server, err := parseServer(address)
		faults = append(faults, err)
		c.servers = append(c.servers, server)
	}
	return errors.Join(faults...)
}

// Close closes idle connections. It leaves those of [Config.HTTPClient] alone.
func (c *Client) Close() {
	if c.ownTransport {
		c.http.CloseIdleConnections()
	}
}

// ForTenant returns a client that calls the same servers over the same connections, with the API
// key of another tenant.
func (c *Client) ForTenant(apiKey string) (*Client, error) {
	if err := checkAPIKey(apiKey); err != nil {
		return nil, err
	}
	other := *c
	other.apiKey, other.authorization, other.calls = apiKey, authorizationOf(apiKey), new(atomic.Uint64)
	return &other, nil
}

// KeyFingerprint returns the first 64 bits of the API key's SHA-256, in hexadecimal. It names the
// tenant in logs and files without showing the key.
func (c *Client) KeyFingerprint() string {
	sum := sha256.Sum256([]byte(c.apiKey))
	return hex.EncodeToString(sum[:8])
}
