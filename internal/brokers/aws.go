package brokers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl/aws"
)

// credentialsBytesMax bounds a response with credentials. Session tokens have 1 to 4 KB.
const credentialsBytesMax = 64 << 10

// roleHost is where containers of Amazon ECS get the credentials of their task.
const roleHost = "http://169.254.170.2"

// credentialHosts may be reached without TLS: the agents of Amazon ECS and of EKS Pod Identity.
// Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
var credentialHosts = []string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}

// awsCredentials gets the credentials of AWS_MSK_IAM for each login: from the environment, or from
// the agent that the environment names. The agent's are temporary, and so never kept.
type awsCredentials struct {
	env    func(string) string
	client *http.Client
}

var errNoCredentials = errors.New("no credentials of AWS: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, nor " +
	"AWS_CONTAINER_CREDENTIALS_FULL_URI, nor AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is set")

func newAWSCredentials(env func(string) string) awsCredentials {
	return awsCredentials{env, &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // Not by a proxy: the agent is on this host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// static returns the credentials of the environment itself, if it has them.
func (c awsCredentials) static() (auth aws.Auth, found bool) {
	auth.AccessKey, auth.SecretKey = c.env("AWS_ACCESS_KEY_ID"), c.env("AWS_SECRET_ACCESS_KEY")
	auth.SessionToken = c.env("AWS_SESSION_TOKEN")
	return auth, auth.AccessKey != "" && auth.SecretKey != ""
}

// check returns an error if the environment names no credentials.
func (c awsCredentials) check() error {
	if _, found := c.static(); found {
		return nil
	}
	_, err := c.agent()
	return err
}

// get returns the present credentials. It takes tokenTimeout at most.
func (c awsCredentials) get(ctx context.Context) (aws.Auth, error) {
	if auth, found := c.static(); found {
		return auth, nil
	}
	address, err := c.agent()
	if err != nil {
		return aws.Auth{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	auth, err := c.request(ctx, address)
	if err != nil {
		return aws.Auth{}, fmt.Errorf("credentials of AWS from %s: %w", address, err)
	}
	return auth, nil
}

// agent returns the address of the agent.
func (c awsCredentials) agent() (string, error) {
	if path := c.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		return roleHost + path, nil
	}
	full := c.env("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if full == "" {
		return "", errNoCredentials
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.User != nil {
		return "", errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is no URL")
	}
	if u.Scheme != "https" && !isLoopback(u.Hostname()) && !isAgent(u.Hostname()) {
		return "", fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI: %s must be https", u.Host)
	}
	return full, nil
}

func isAgent(host string) bool {
	ip := net.ParseIP(host)
	for _, one := range credentialHosts {
		if ip != nil && ip.Equal(net.ParseIP(one)) {
			return true
		}
	}
	return false
}

func (c awsCredentials) request(ctx context.Context, address string) (aws.Auth, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return aws.Auth{}, err
	}
	token, err := c.token()
	if err != nil {
		return aws.Auth{}, err
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	response, err := c.client.Do(r)
	if err != nil {
		return aws.Auth{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return aws.Auth{}, errors.New(response.Status)
	}
	var body struct{ AccessKeyID, SecretAccessKey, Token string }
	err = json.NewDecoder(io.LimitReader(response.Body, credentialsBytesMax)).Decode(&body)
	if err != nil || body.AccessKeyID == "" || body.SecretAccessKey == "" {
		return aws.Auth{}, errors.New("the response has no credentials") // Its text may have some of them.
	}
	return aws.Auth{AccessKey: body.AccessKeyID, SecretKey: body.SecretAccessKey, SessionToken: body.Token}, nil
}

// token returns what the agent wants to see, from a file that it replaces now and then.
func (c awsCredentials) token() (string, error) {
	path := c.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
	if path == "" {
		return c.env("AWS_CONTAINER_AUTHORIZATION_TOKEN"), nil
	}
	token, err := os.ReadFile(path) //nolint:gosec // The environment names it.
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(token)), nil
}
