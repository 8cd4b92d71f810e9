package brokers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/internal/tlsfile"
)

const (
	// tokenTimeout bounds one request to the token endpoint.
	tokenTimeout = 5 * time.Second
	// tokenReuseMax bounds how long a token is given to further connections. Those of one start
	// then share a token. A token that brokers refuse is soon replaced.
	tokenReuseMax = time.Minute
	// tokenPause is the pause after a request that failed. Many clients may wait for a token.
	tokenPause = time.Second
	// tokenBytesMax bounds a token. Kafka reads 512 KiB from a client that is not logged in yet
	// (sasl.server.max.receive.size).
	tokenBytesMax = 64 << 10
	// reasonBytesMax bounds what an error repeats of the endpoint's response.
	reasonBytesMax = 200
)

// TokenEndpoint is where tokens come from, by the client credentials grant (RFC 6749, section 4.4).
type TokenEndpoint struct {
	// URL has https, or a loopback host.
	URL string
	// ClientID and ClientSecret identify the client.
	ClientID     string
	ClientSecret secretfile.Value
	Scopes       []string
	// CA is a file with the authorities that the endpoint's certificate is checked against. If it
	// is empty, those of the system are used.
	CA string
	// Extensions are sent to the broker next to the token (KIP-342).
	Extensions map[string]string
}

// Tokens gets tokens and gives each to the connections of a short time. A token that it returns has
// at least half of its life before it. It is safe for concurrent use.
type Tokens struct {
	endpoint TokenEndpoint
	trust    *tlsfile.Client
	client   *http.Client

	mu sync.Mutex
	// config also remembers in which of two forms the endpoint takes the secret.
	config *clientcredentials.Config
	token  string
	// err is the error of the last request, or nil.
	err error
	// until is when another request is made.
	until time.Time
}

// NewTokens returns the tokens of an endpoint. It reads the file of authorities, and sends no
// request.
func NewTokens(e TokenEndpoint) (*Tokens, error) {
	trust, err := tlsfile.NewClient(e.CA, tlsfile.Pair{})
	if err != nil {
		return nil, err
	}
	return &Tokens{
		endpoint: e,
		trust:    trust,
		client: &http.Client{
			Transport: trusting{trust},
			// A redirect would take the secret to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		config: &clientcredentials.Config{ClientID: e.ClientID, TokenURL: e.URL, Scopes: e.Scopes},
	}, nil
}

// trusting sends each request over a connection of its own. Requests are rare, and the authorities
// may have changed since the last one.
type trusting struct{ trust *tlsfile.Client }

// RoundTrip implements http.RoundTripper.
func (t trusting) RoundTrip(r *http.Request) (*http.Response, error) {
	once := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: t.trust.Config(),
	}
	return once.RoundTrip(r)
}

// Token returns a token. Callers wait for one request together, for tokenTimeout at most.
func (t *Tokens) Token(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Now().Before(t.until) {
		return t.token, t.err
	}
	// The token is for others, too: one that stops must not end the request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenTimeout)
	defer cancel()
	asked := time.Now()
	token, err := t.request(ctx)
	if err != nil {
		t.token, t.until = "", time.Now().Add(tokenPause)
		t.err = fmt.Errorf("no token for %s from %s: %w", t.endpoint.ClientID, t.endpoint.URL, err)
		return "", t.err
	}
	t.token, t.err, t.until = token.AccessToken, nil, asked
	if !token.Expiry.IsZero() {
		t.until = asked.Add(min(token.Expiry.Sub(asked)/2, tokenReuseMax))
	}
	return t.token, nil
}

func (t *Tokens) request(ctx context.Context) (*oauth2.Token, error) {
	t.config.ClientSecret = t.endpoint.ClientSecret.Current()
	token, err := t.config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	if err != nil {
		return nil, explainToken(err)
	}
	if len(token.AccessToken) > tokenBytesMax {
		return nil, fmt.Errorf("the token has more than %d bytes", tokenBytesMax)
	}
	return token, nil
}

// explainToken returns the error without the body of the response, which may be long and may repeat
// the request.
func explainToken(err error) error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return err
	}
	reason := refused.Response.Status
	if refused.ErrorCode != "" {
		reason = fmt.Sprintf("%s, %s: %s", reason, refused.ErrorCode, refused.ErrorDescription)
	}
	return errors.New(reason[:min(len(reason), reasonBytesMax)])
}

// String names the endpoint, for all verbs of fmt: a token and the secret are not shown.
func (t *Tokens) String() string { return "tokens of " + t.endpoint.URL }

// GoString does the same for %#v.
func (t *Tokens) GoString() string { return t.String() }
