package harness

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Address returns a port of the loopback interface as host:port.
func Address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Ports hands out free ports below those that the kernel gives to outgoing connections. Otherwise
// such a connection could take the port of a server that is down.
type Ports struct{ next int }

// NewPorts starts at a random port, so that two runs at the same time rarely collide.
func NewPorts() *Ports { return &Ports{next: 20_000 + rand.IntN(8_000)} }

// Take returns a port that was free a moment ago.
func (p *Ports) Take() (int, error) {
	for ; p.next < 32_000; p.next++ {
		l, err := net.Listen("tcp", Address(p.next))
		if err == nil {
			p.next++
			return p.next - 1, l.Close()
		}
	}
	return 0, errors.New("no free port below 32000")
}
