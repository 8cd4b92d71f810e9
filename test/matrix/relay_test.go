package matrix

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"testing"
)

// relay is between the victim and a server. When armed, it loses one message: the request before
// the server sees it, or the response after the server has sent it. The victim sees a broken
// connection.
type relay struct {
	net.Listener
	upstream string
	// matches reports whether the victim has written the request in question.
	matches func(request []byte) bool

	mu    sync.Mutex
	lose  when
	fired chan struct{}
	// closed is true from the loss until open: no connection gets through.
	closed bool
}

type when string

const (
	never  when = ""
	before when = "before"
	after  when = "after"
)

func newRelay(t *testing.T, upstream string, matches func([]byte) bool) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	r := &relay{Listener: listener, upstream: upstream, matches: matches, fired: make(chan struct{})}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(client)
		}
	}()
	return r
}

// arm makes the relay lose the next message.
func (r *relay) arm(w when) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose = w
}

// open lets connections through again.
func (r *relay) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = false
}

// fate returns what happens to what the victim has written.
func (r *relay) fate(request []byte) when {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lose == never || !r.matches(request) {
		return never
	}
	w := r.lose
	r.lose, r.closed = never, true
	return w
}

func (r *relay) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

func (r *relay) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	if r.isClosed() {
		return
	}
	server, err := net.Dial("tcp", r.upstream)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	responses := make(chan []byte)
	go func() {
		defer close(responses)
		pump(server, func(b []byte) bool {
			responses <- bytes.Clone(b)
			return true
		})
	}()
	var mu sync.Mutex
	losing := false // The next response is lost.
	go func() {
		defer func() { _ = client.Close() }()
		for b := range responses {
			mu.Lock()
			lost := losing
			mu.Unlock()
			if lost {
				close(r.fired)
				_ = client.Close()
				continue // It reads to the end, so that the other goroutine does not block.
			}
			_, _ = client.Write(b)
		}
	}()
	pump(client, func(b []byte) bool {
		switch r.fate(b) {
		case before:
			close(r.fired)
			return false
		case after:
			mu.Lock()
			losing = true
			mu.Unlock()
		}
		_, err := server.Write(b)
		return err == nil
	})
}

// pump reads until the connection ends, or until to returns false.
func pump(from net.Conn, to func([]byte) bool) {
	buffer := make([]byte, 1<<20) // A request of these tests arrives in one piece.
	for {
		n, err := from.Read(buffer)
		if n > 0 && !to(buffer[:n]) || err != nil {
			return
		}
	}
}

// isCommit reports whether b has PostgreSQL's COMMIT, a simple query. Source:
// https://www.postgresql.org/docs/17/protocol-message-formats.html
func isCommit(b []byte) bool { return bytes.Contains(b, []byte("Q\x00\x00\x00\x0bcommit\x00")) }

// Kafka's requests that change something. Source:
// https://kafka.apache.org/protocol#protocol_api_keys
const (
	apiProduce, apiInitProducerID, apiEndTxn = 0, 22, 26
)

// isRequest returns a function that reports whether b has a request to Kafka with this key.
func isRequest(key uint16) func([]byte) bool {
	return func(b []byte) bool {
		for len(b) >= 6 {
			if binary.BigEndian.Uint16(b[4:]) == key {
				return true
			}
			b = b[min(len(b), 4+int(binary.BigEndian.Uint32(b))):]
		}
		return false
	}
}
