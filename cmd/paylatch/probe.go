package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/internal/tlsfile"
)

// probeCommand is for containers whose image has no shell and no curl.
type probeCommand struct {
	Process     string        `arg:"" optional:"" enum:"api,sender" default:"api" help:"api, for a process with an API (the default), or sender, for a sender alone."`
	Live        bool          `help:"Check /livez: whether the process responds. By default /readyz is checked."`
	Listen      app.Address   `env:"PAYLATCH_LISTEN" default:"127.0.0.1:8080" help:"Where the API listens."`
	AdminListen app.Address   `env:"PAYLATCH_ADMIN_LISTEN" default:"127.0.0.1:8081" help:"Where a sender's /livez and /readyz are served."`
	Timeout     time.Duration `default:"2s" help:"How long the response may take."`

	// The process has read these files, and may use an earlier content. A probe must not fail
	// because one of them is broken, so it reads only what it needs.
	TLSCert        string         `name:"tls-cert" env:"PAYLATCH_TLS_CERT" placeholder:"PATH" help:"The API speaks TLS."`
	AdminTLSCert   string         `name:"admin-tls-cert" env:"PAYLATCH_ADMIN_TLS_CERT" placeholder:"PATH" help:"The admin listener speaks TLS."`
	AdminToken     app.AdminToken `env:"PAYLATCH_ADMIN_TOKEN" placeholder:"SECRET" help:"The token of the admin listener."`
	AdminTokenFile string         `env:"PAYLATCH_ADMIN_TOKEN_FILE" placeholder:"PATH" help:"A file with the token."`
	ProbeCert      string         `env:"PAYLATCH_PROBE_CERT" placeholder:"PATH" help:"A client certificate for the admin listener, if that needs one."`
	ProbeKey       string         `env:"PAYLATCH_PROBE_KEY" placeholder:"PATH" help:"The key of --probe-cert."`
}

// Run returns nil if the process on this machine is ready, or live.
func (c *probeCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(), nil)
	if err != nil {
		return err
	}
	client, err := c.client(request)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		const bodyBytesMax = 1 << 10
		body, _ := io.ReadAll(io.LimitReader(response.Body, bodyBytesMax))
		return fmt.Errorf("%s: %s: %s", request.URL, response.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// url returns what to get. A process that listens on all addresses is reached by loopback.
func (c *probeCommand) url() string {
	address, path, secured := c.Listen, "/readyz", c.TLSCert != ""
	if c.Process == "sender" {
		address, secured = c.AdminListen, c.AdminTLSCert != ""
	}
	scheme := "http://"
	if secured {
		scheme = "https://"
	}
	if c.Live {
		path = "/livez"
	}
	host, port, _ := net.SplitHostPort(string(address)) // It was checked.
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port) + path
}

// client returns a client for the request, and adds the credentials of the admin listener, which a
// sender needs.
//
// The server is not verified: the request does not leave this machine, and the certificate is for
// the name that clients use.
func (c *probeCommand) client(request *http.Request) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // See above.
	if c.Process == "sender" {
		if c.ProbeCert != "" || c.ProbeKey != "" {
			side, err := tlsfile.NewClient("", tlsfile.Pair{Cert: c.ProbeCert, Key: c.ProbeKey})
			if err != nil {
				return nil, fmt.Errorf("--probe-cert, --probe-key: %w", err)
			}
			config.GetClientCertificate = side.Config().GetClientCertificate
		}
		token, err := c.token()
		if err != nil {
			return nil, err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}, nil
}

// token returns the first token, or nothing.
func (c *probeCommand) token() (string, error) {
	text := string(c.AdminToken)
	if c.AdminTokenFile != "" {
		const tokenFileBytesMax = 64 << 10
		content, err := secretfile.Read(c.AdminTokenFile, tokenFileBytesMax)
		if err != nil {
			return "", fmt.Errorf("--admin-token-file: %w", err)
		}
		text = string(content)
	}
	tokens := strings.Fields(text)
	if len(tokens) == 0 {
		return "", nil
	}
	return tokens[0], nil
}
