package matrix

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"testing"
)

// relay stands between the victim and a server, and loses one exchange when it is told to: the
// request before the server sees it, or the answer after the server has given it. Whoever asked
// sees a connection that breaks.
type relay struct {
	net.Listener
	upstream string
	// Whether what the victim writes holds the request in question.
	isIt func(request []byte) bool

	mu    sync.Mutex
	lose  when
	fired chan struct{}
	// After it has fired: nobody gets through, until it is opened.
	closed bool
}

type when string

const (
	never  when = ""
	before when = "before"
	after  when = "after"
)

func newRelay(t *testing.T, upstream string, isIt func([]byte) bool) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	r := &relay{Listener: listener, upstream: upstream, isIt: isIt, fired: make(chan struct{})}
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

// arm has the next exchange lost.
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

// doomed tells what is to become of what the victim has written.
func (r *relay) doomed(request []byte) when {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lose == never || !r.isIt(request) {
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
	answers := make(chan []byte)
	go func() {
		defer close(answers)
		pump(server, func(b []byte) bool {
			answers <- bytes.Clone(b)
			return true
		})
	}()
	var mu sync.Mutex
	losing := false // The next answer.
	go func() {
		defer func() { _ = client.Close() }()
		for b := range answers {
			mu.Lock()
			lost := losing
			mu.Unlock()
			if lost {
				close(r.fired)
				_ = client.Close()
				continue // To the end, so that nobody waits.
			}
			_, _ = client.Write(b)
		}
	}()
	pump(client, func(b []byte) bool {
		switch r.doomed(b) {
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

// pump reads until the connection ends or to does not want any more.
func pump(from net.Conn, to func([]byte) bool) {
	buffer := make([]byte, 1<<20) // A request of these tests comes whole.
	for {
		n, err := from.Read(buffer)
		if n > 0 && !to(buffer[:n]) || err != nil {
			return
		}
	}
}

// isCommit recognises PostgreSQL's COMMIT, a simple query.
// Source: https://www.postgresql.org/docs/17/protocol-message-formats.html
func isCommit(b []byte) bool { return bytes.Contains(b, []byte("Q\x00\x00\x00\x0bcommit\x00")) }

// Kafka's requests that change something. Source:
// https://kafka.apache.org/protocol#protocol_api_keys
const (
	apiProduce, apiInitProducerID, apiEndTxn = 0, 22, 26
)

// isRequest recognises a request of Kafka by its key.
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
