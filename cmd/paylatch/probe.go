package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// probeCommand is for containers whose image has no shell and no curl.
type probeCommand struct {
	apiSettings
	Timeout time.Duration `default:"2s" help:"How long the answer may take."`
}

// Run asks the service of this machine whether it is ready.
func (c *probeCommand) Run(ctx context.Context) error {
	_, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen %q is no HOST:PORT", c.Listen)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", port)+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", response.Status)
	}
	return nil
}
