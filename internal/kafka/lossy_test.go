package kafka

import (
	"encoding/binary"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// What becomes of an answer that is lost.
const (
	closeConn  = "the connection is closed instead"
	keepSilent = "nothing comes instead"
)

// lossyListener gives a broker connections on which the answer to one produce request can be lost: the request is carried out, and whoever sent
// it never hears of it.
type lossyListener struct {
	net.Listener

	mu   sync.Mutex
	how  string // Empty while nothing is to be lost.
	lost bool
}

func newLossy(t *testing.T) (lossy *lossyListener, addr string) {
	t.Helper()
	lossy = &lossyListener{}
	_, addr = newFake(t, 1, kfake.ListenFn(func(network, _ string) (_ net.Listener, err error) {
		lossy.Listener, err = net.Listen(network, "127.0.0.1:0")
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

// lossyConn reads along, so that it knows which answer is whose: requests and answers carry a correlation id.
// Source: https://kafka.apache.org/protocol#protocol_messages
type lossyConn struct {
	net.Conn
	listener *lossyListener
	in       []byte // The part of a request that has come so far.
	doomed   *uint32
	how      string
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
			c.doomed, c.how, c.listener.how = &correlation, c.listener.how, ""
		}
		c.in = c.in[end:]
	}
	return n, err
}

func (c *lossyConn) Write(p []byte) (int, error) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if c.doomed == nil || len(p) < 8 || binary.BigEndian.Uint32(p[4:]) != *c.doomed {
		return c.Conn.Write(p)
	}
	c.doomed, c.listener.lost = nil, true
	if c.how == closeConn {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return len(p), nil
}
