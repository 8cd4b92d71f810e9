package kafka

import (
	"encoding/binary"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// How a response is lost: the connection is closed, or nothing is sent.
const (
	closeConn  = "close"
	keepSilent = "silent"
)

// lossyListener accepts connections on which the response to one produce request can be lost. The
// request is carried out.
type lossyListener struct {
	net.Listener

	mu sync.Mutex
	// how is empty if no response is to be lost.
	how  string
	lost bool
}

func newLossy(t *testing.T) (lossy *lossyListener, addr string) {
	t.Helper()
	lossy = &lossyListener{}
	_, addr = newFake(t, 1, kfake.ListenFn(func(network, _ string) (_ net.Listener, err error) {
		lossy.Listener, err = new(net.ListenConfig).Listen(t.Context(), network, "127.0.0.1:0")
		return lossy, err
	}))
	return lossy, addr
}

func (l *lossyListener) loseNext(how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.how, l.lost = how, false
}

func (l *lossyListener) hasLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *lossyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lossyConn{Conn: conn, listener: l}, nil
}

// lossyConn parses requests and responses, which it joins by their correlation ids.
// Source: https://kafka.apache.org/protocol#protocol_messages
type lossyConn struct {
	net.Conn
	listener *lossyListener
	// in is the part of a request that has arrived.
	in []byte
	// lose is the correlation id of the response that is to be lost, or nil.
	lose *uint32
	how  string
}

func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.in = append(c.in, p[:n]...)
	for len(c.in) >= 4 {
		end := 4 + int(binary.BigEndian.Uint32(c.in))
		if len(c.in) < end {
			break
		}
		key, correlation := binary.BigEndian.Uint16(c.in[4:]), binary.BigEndian.Uint32(c.in[8:])
		if key == keyProduce && c.listener.how != "" {
			c.lose, c.how, c.listener.how = &correlation, c.listener.how, ""
		}
		c.in = c.in[end:]
	}
	return n, err
}

func (c *lossyConn) Write(p []byte) (int, error) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if c.lose == nil || len(p) < 8 || binary.BigEndian.Uint32(p[4:]) != *c.lose {
		return c.Conn.Write(p)
	}
	c.lose, c.listener.lost = nil, true
	if c.how == closeConn {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return len(p), nil
}
