package embedded

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// A free port is drawn from below the range that Linux (32768 on) and macOS (49152 on) give to
// outgoing connections. From within it, a client that dials a stopped server's port may be given
// that very port as its own and so connect to itself; the server could then not come back. Tests
// that restart servers under load meet this.
const (
	freePortFirst = 20000
	freePortLast  = 32767
	freePortTries = 50
)

// listenFree listens on the port, or for 0 on any free one.
func listenFree(host string, port int) (net.Listener, error) {
	if port != 0 {
		return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	}
	for range freePortTries {
		port := freePortFirst + rand.IntN(freePortLast-freePortFirst+1)
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

// freePort finds a port that was free a moment ago. Its user must be ready to try another one.
func freePort() (int, error) {
	l, err := listenFree("127.0.0.1", 0)
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
