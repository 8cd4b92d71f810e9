package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/payment"
)

// patience bounds every wait of a test that uses real connections. It is below idleTimeout, so that
// a connection which only idleTimeout ends fails the test.
const patience = 30 * time.Second

// logBuffer keeps a log. It is safe for concurrent use.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// metric returns the value of a metric without labels.
func metric(t *testing.T, s *Server, name string) float64 { return metricWith(t, s, name, "", "") }

// metricWith returns the value of the metric whose label has the value.
func metricWith(t *testing.T, s *Server, name, label, value string) float64 {
	t.Helper()
	families, err := s.metrics.registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			matches := label == ""
			for _, pair := range m.GetLabel() {
				matches = matches || pair.GetName() == label && pair.GetValue() == value
			}
			if f.GetName() == name && matches {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s of %s %q", name, label, value)
	return 0
}

// served runs a server on a port of this machine until the test ends, and returns its address.
func served(t *testing.T, s *Server) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	return l.Addr().String()
}

// serveOn runs a server on l until the test ends.
func serveOn(t *testing.T, s *Server, l net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ctx, l, time.Second) // Connections of clients may be open to the end.
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// dial opens a connection, and closes it when the test ends.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

const livezRequest = "GET /livez HTTP/1.1\r\nHost: paylatch\r\n\r\n"

// exchangeOn makes a request over a connection, and returns the status of the response.
func exchangeOn(t *testing.T, conn net.Conn, request string) int {
	t.Helper()
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	return statusOn(t, conn)
}

// statusOn reads a response and returns its status.
func statusOn(t *testing.T, conn net.Conn) int {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// TestServe_IdleConnections: idle connections beyond the bound are closed, and each new client is
// served.
func TestServe_IdleConnections(t *testing.T) {
	t.Parallel()
	const connectionsMax, clients = 4, 10
	var log logBuffer
	s, _ := newTestServer(t)
	s.config.ConnectionsMax, s.logger = connectionsMax, log.logger()
	address := served(t, s)
	conns := make([]net.Conn, clients)
	for i := range conns {
		conns[i] = dial(t, address)
		if status := exchangeOn(t, conns[i], livezRequest); status != http.StatusOK {
			t.Fatalf("client %d: got %d, want 200", i, status)
		}
	}
	open := 0
	for _, conn := range conns {
		_, err := conn.Write([]byte(livezRequest))
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if err == nil {
			open++
		}
	}
	if open != connectionsMax {
		t.Errorf("got %d connections that work, want %d", open, connectionsMax)
	}
	evicted := metric(t, s, "paylatch_connections_evicted_total")
	if evicted != clients-connectionsMax {
		t.Errorf("got %v evicted connections, want %d", evicted, clients-connectionsMax)
	}
	if n := strings.Count(log.String(), "as many connections as they may"); n != 1 {
		t.Errorf("got %d lines about the bound, want 1:\n%s", n, log.String())
	}
}

// TestBoundedListener_Idlest: the connection that has been without a request for longest is closed.
// One with a request in progress is not, and one that has served a request counts from its end.
func TestBoundedListener_Idlest(t *testing.T) {
	t.Parallel()
	pipes := newPipeListener()
	l := newBoundedListener(pipes, 3, quiet, newConnectionMetrics())
	accept := func() net.Conn {
		go pipes.dial()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	served, idle, busy := accept(), accept(), accept()
	for _, state := range []http.ConnState{http.StateActive, http.StateIdle} {
		l.track(served, state)
	}
	l.track(busy, http.StateActive)
	for n, want := range []net.Conn{idle, served} {
		accept()
		for _, conn := range []net.Conn{served, idle, busy} {
			closed := conn.(*boundedConn).forgotten
			if wanted := conn == want || conn == idle; closed != wanted {
				t.Errorf("after %d more: got a connection closed: %t, want %t", n+1, closed, wanted)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// heldStore is a fakeStore whose lookups begin and then wait until they are released.
type heldStore struct {
	*fakeStore
	began, release chan struct{}
}

func (s *heldStore) Find(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	s.began <- struct{}{}
	<-s.release
	return s.stored, nil
}

// TestServe_BusyConnections: while all connections have a request in progress, a new one waits.
// None of them is closed.
func TestServe_BusyConnections(t *testing.T) {
	t.Parallel()
	const connectionsMax = 2
	var log logBuffer
	s, memory := newTestServer(t)
	store := &heldStore{memory, make(chan struct{}), make(chan struct{})}
	s.store, s.config.ConnectionsMax, s.logger = store, connectionsMax, log.logger()
	address := served(t, s)
	key, err := payment.NewAPIKey("live")
	if err != nil {
		t.Fatal(err)
	}
	status := fmt.Sprintf("GET /payments/%s HTTP/1.1\r\nHost: paylatch\r\nAuthorization: Bearer %s\r\n\r\n",
		memory.stored.ID, key.Reveal())
	busy := make([]net.Conn, connectionsMax)
	for i := range busy {
		busy[i] = dial(t, address)
		if _, err := busy[i].Write([]byte(status)); err != nil {
			t.Fatal(err)
		}
		<-store.began
	}
	late := dial(t, address)
	if _, err := late.Write([]byte(livezRequest)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(log.String(), "as many connections as they may"); {
		if time.Now().After(deadline) {
			t.Fatal("the listener never noticed that all connections are busy")
		}
		time.Sleep(time.Millisecond)
	}
	if open := metric(t, s, "paylatch_connections_open"); open != connectionsMax {
		t.Errorf("got %v open connections, want %d", open, connectionsMax)
	}
	close(store.release)
	for i, conn := range append(busy, late) {
		if status := statusOn(t, conn); status != http.StatusOK {
			t.Errorf("connection %d: got %d, want 200", i, status)
		}
	}
}

// pipeListener is a listener whose connections are pipes, for tests with a clock of their own.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// dial returns the client's end of a new connection.
func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// onPipes runs test with a server that is reached over pipes. Time is that of a synctest bubble.
func onPipes(t *testing.T, test func(t *testing.T, l *pipeListener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newTestServer(t)
		l := newPipeListener()
		serveOn(t, s, l)
		test(t, l)
	})
}

// TestServe_SlowReader: a client that makes requests and does not read the responses is
// disconnected after responseTimeout, on routes with a long response and on short ones.
func TestServe_SlowReader(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/openapi.json", "/livez", "/payments", "/problems/none"} {
		t.Run(path, func(t *testing.T) {
			onPipes(t, func(t *testing.T, l *pipeListener) {
				client := l.dial()
				began := time.Now()
				requests := strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: paylatch\r\n\r\n", 1000)
				_, err := client.Write([]byte(requests)) // Fails when the server closes the connection.
				if took := time.Since(began); err == nil || took > responseTimeout {
					t.Errorf("got error %v after %s, want to be disconnected within %s", err, took, responseTimeout)
				}
			})
		})
	}
}

// TestServe_UnsentBody: a request whose body is not read gets its response, refused or not, and
// does not hold the connection, although the client does not send the body.
func TestServe_UnsentBody(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]int{
		"POST /payments": http.StatusUnauthorized, "GET /livez": http.StatusOK,
	} {
		t.Run(request, func(t *testing.T) {
			onPipes(t, func(t *testing.T, l *pipeListener) {
				client := l.dial()
				began := time.Now()
				status := exchangeOn(t, client, request+" HTTP/1.1\r\nHost: paylatch\r\nContent-Length: 500\r\n\r\n{")
				if status != want {
					t.Errorf("got %d, want %d", status, want)
				}
				_, err := client.Read(make([]byte, 1))
				if took := time.Since(began); err == nil || took > 2*refusedBodyTimeout {
					t.Errorf("got error %v after %s, want the end within %s", err, took, 2*refusedBodyTimeout)
				}
			})
		})
	}
}

// TestAdmin_UnsentBody: the same on the admin listener, whose routes read no body, with a token and
// without.
func TestAdmin_UnsentBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, token := newPipeListener(), "a-token-of-the-test"
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		admin := Admin{
			Metrics: prometheus.NewRegistry(), Health: http.NotFoundHandler(),
			Tokens: func() []string { return []string{token} },
		}
		go func() { ended <- ServeAdmin(ctx, l, admin, quiet) }()
		for header, want := range map[string]int{
			"": http.StatusUnauthorized, "Authorization: Bearer " + token + "\r\n": http.StatusOK,
		} {
			client := l.dial()
			began := time.Now()
			status := exchangeOn(t, client, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"+header+
				"Content-Length: 500\r\n\r\n{")
			if took := time.Since(began); status != want || took > 2*refusedBodyTimeout {
				t.Errorf("got %d after %s, want %d within %s", status, took, want, 2*refusedBodyTimeout)
			}
			_ = client.Close()
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestServe_OldHTTP: a request of HTTP/1.0 ends its connection, so that nothing that follows its
// headers can be read as another request. net/http drops its Transfer-Encoding.
func TestServe_OldHTTP(t *testing.T) {
	t.Parallel()
	s, _ := newTestServer(t)
	conn := dial(t, served(t, s))
	if _, err := conn.Write([]byte("GET /livez HTTP/1.0\r\nHost: paylatch\r\nConnection: keep-alive\r\n" +
		"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4c\r\n" + livezRequest)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if n := strings.Count(string(all), "HTTP/1."); n != 1 {
		t.Errorf("got %d responses (%v), want 1 and the end of the connection:\n%s", n, err, all)
	}
}

// failingListener fails as the kernel does, as often as failures says.
type failingListener struct {
	net.Listener
	failures int
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestServe_AcceptFails: too few open files are logged as a warning, once in a while, and end.
func TestServe_AcceptFails(t *testing.T) {
	t.Parallel()
	const failures = 3
	var log logBuffer
	s, _ := newTestServer(t)
	s.logger = log.logger()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, &failingListener{l, failures})
	if status := exchangeOn(t, dial(t, l.Addr().String()), livezRequest); status != http.StatusOK {
		t.Errorf("got %d, want 200", status)
	}
	if n := strings.Count(log.String(), `"level":"WARN","msg":"accepting a connection failed"`); n != 1 {
		t.Errorf("got %d warnings, want 1:\n%s", n, log.String())
	}
	if n := metric(t, s, "paylatch_accept_errors_total"); n != failures {
		t.Errorf("got %v errors counted, want %d", n, failures)
	}
}

// TestSampler: one event passes in each interval, with the number of those held back since the one
// before.
func TestSampler(t *testing.T) {
	t.Parallel()
	var s sampler
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for i, row := range []struct {
		after time.Duration
		held  int
		ok    bool
	}{
		{0, 0, true},
		{0, 0, false},
		{time.Second, 0, false},
		{sampleInterval - time.Second, 2, true},
		{0, 0, false},
		{2 * sampleInterval, 1, true},
		{sampleInterval, 0, true},
	} {
		at = at.Add(row.after)
		if held, ok := s.pass(at, 1); held != row.held || ok != row.ok {
			t.Errorf("event %d: got %d held back and %t, want %d and %t", i, held, ok, row.held, row.ok)
		}
	}
}

// TestOpenAPI: the contract is compressed for clients that accept it, and not sent again to those
// that have it.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s, _ := newTestServer(t)
	plain := do(t, s, http.MethodGet, "/openapi.json", "")
	if plain.Code != http.StatusOK || !bytes.Equal(plain.Body.Bytes(), OpenAPI) {
		t.Fatalf("got %d and %d bytes, want 200 and the document", plain.Code, plain.Body.Len())
	}
	for accept, compressed := range map[string]bool{
		"gzip": true, "deflate, GZIP;q=0.5": true, "br;q=1.0, gzip;q=0.001": true,
		"": false, "gzip;q=0": false, "gzip; q=0.000": false, "identity": false, "x-gzip": false, "*": false,
	} {
		w := do(t, s, http.MethodGet, "/openapi.json", "", "Accept-Encoding", accept)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != compressed {
			t.Errorf("Accept-Encoding %q: got compressed %t, want %t", accept, got, compressed)
		}
		if compressed && w.Body.Len() > len(OpenAPI)/4 {
			t.Errorf("got %d bytes compressed, want less than a quarter of %d", w.Body.Len(), len(OpenAPI))
		}
	}
	tag := plain.Header().Get("Etag")
	if w := do(t, s, http.MethodGet, "/openapi.json", "", "If-None-Match", tag); w.Code != http.StatusNotModified {
		t.Errorf("If-None-Match %s: got %d, want 304", tag, w.Code)
	}
	if w := do(t, s, http.MethodGet, "/openapi.json", "", "If-None-Match", `"other"`); w.Code != http.StatusOK {
		t.Errorf("another version: got %d, want 200", w.Code)
	}
}
