package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/app"
)

// probeCommand is for containers whose image has no shell and no curl.
type probeCommand struct {
	Process     string        `arg:"" optional:"" enum:"api,sender" default:"api" help:"api, for a process with an API (the default), or sender, for a sender alone."`
	Live        bool          `help:"Check /livez: whether the process responds. By default /readyz is checked."`
	Listen      app.Address   `env:"PAYLATCH_LISTEN" default:"127.0.0.1:8080" help:"Where the API listens."`
	AdminListen app.Address   `env:"PAYLATCH_ADMIN_LISTEN" default:"127.0.0.1:8081" help:"Where a sender's /livez and /readyz are served."`
	Timeout     time.Duration `default:"2s" help:"How long the response may take."`
}

// Run returns nil if the process on this machine is ready, or live.
func (c *probeCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
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
	address, path := c.Listen, "/readyz"
	if c.Process == "sender" {
		address = c.AdminListen
	}
	if c.Live {
		path = "/livez"
	}
	host, port, _ := net.SplitHostPort(string(address)) // It was checked.
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + path
}
