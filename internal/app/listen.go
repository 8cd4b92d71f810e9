package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/paylatch/paylatch/internal/tlsfile"
)

// Listen opens a port. The error names the flag, and says what to do.
func Listen(flag string, address Address) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", string(address))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, PortInUse(flag, address)
	}
	if err != nil {
		return nil, fmt.Errorf("--%s: cannot listen on %s: %w", flag, address, err)
	}
	return l, nil
}

// PortInUse returns the error of a port that another program has.
func PortInUse(flag string, address Address) error {
	return fmt.Errorf("%s is in use by another program: stop it, or give --%s another address (port 0 takes "+
		"any free one)", address, flag)
}

func listenerURL(l net.Listener, tls *tlsfile.Server) string {
	switch {
	case l == nil:
		return ""
	case tls != nil:
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}
