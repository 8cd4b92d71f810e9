package sender

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// wire is the network between one replica and PostgreSQL. It can be cut, and it can lose the
// response to a commit.
type wire struct {
	url      string
	server   string
	listener net.Listener

	mu         sync.Mutex
	conns      map[net.Conn]bool
	isCut      bool
	refused    int
	loseCommit bool
	lost       bool
	// Data from these connections goes nowhere, and neither does their end.
	silent  map[net.Conn]bool
	over    chan struct{}
	running sync.WaitGroup
}

// newWire makes a network to the database at databaseURL. Its own url leads there.
func newWire(t testing.TB, databaseURL string) *wire {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{server: u.Host, conns: map[net.Conn]bool{}, silent: map[net.Conn]bool{}, over: make(chan struct{})}
	w.listener, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.Host = w.listener.Addr().String()
	w.url = u.String()
	w.running.Go(w.accept)
	t.Cleanup(func() {
		close(w.over)
		w.cut()
		_ = w.listener.Close()
		w.running.Wait()
	})
	return w
}

// cut closes all connections, as the death of the replica would, and refuses new ones.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for conn := range w.conns {
		_ = conn.Close()
	}
}

// silence stops the existing connections without closing them, as a host that lost its power does.
// New ones work, as after a failover.
func (w *wire) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.conns {
		w.silent[conn] = true
	}
}

func (w *wire) isSilent(conn net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.silent[conn]
}

// mend allows new connections again.
func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}

// turnedAway counts the connections that the cut has refused.
func (w *wire) turnedAway() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused
}

// loseNextCommit loses the response to the next commit, and its connection. The commit succeeds.
func (w *wire) loseNextCommit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loseCommit = true
}

func (w *wire) hasLost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !w.hold(client, server) {
			continue
		}
		w.running.Go(func() { w.carry(server, client, func([]byte) bool { return true }) })
		w.running.Go(func() { w.carry(client, server, w.passes) })
	}
}

// hold remembers the two ends of a connection, unless the network is cut.
func (w *wire) hold(ends ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, end := range ends {
		if w.isCut {
			_ = end.Close()
		} else {
			w.conns[end] = true
		}
	}
	if w.isCut {
		w.refused++
	}
	return !w.isCut
}

// carry copies from one end to the other until one of them closes or something must not pass.
func (w *wire) carry(to, from net.Conn, passes func([]byte) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if w.isSilent(from) {
			if err != nil {
				<-w.over // The other end is not told that this one has closed.
				break
			}
			continue
		}
		if n > 0 && passes(buffer[:n]) {
			_, err = to.Write(buffer[:n])
		} else if n > 0 {
			err = io.EOF
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, to)
	delete(w.conns, from)
}

// passes holds back the message that a transaction was committed, if that is to be lost. The
// response has a few bytes, so it arrives in one piece. Source:
// https://www.postgresql.org/docs/current/protocol-message-formats.html (CommandComplete)
func (w *wire) passes(answer []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.loseCommit || !bytes.Contains(answer, []byte("COMMIT\x00")) {
		return true
	}
	w.loseCommit, w.lost = false, true
	return false
}
