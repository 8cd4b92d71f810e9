package api

import (
	"container/list"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// ConnectionsMaxDefault bounds the connections of clients, unless the process may have fewer
	// files. An idle connection has about 13 kB of memory in the process: 130 MB at this bound.
	ConnectionsMaxDefault = 10_000
	// adminConnectionsMax bounds the connections of the admin listener. They have a bound of their
	// own, so that metrics are there when clients use all of theirs.
	adminConnectionsMax = 64
	// sendBufferBytes bounds what the kernel keeps of responses that a client does not read. Linux
	// doubles it for its own use, and would otherwise let it grow to megabytes. A response with a
	// payment has less than 4 kB.
	sendBufferBytes = 64 << 10
)

// boundedListener bounds the connections that are open at once. If one more arrives, the connection
// that has been without a request for longest is closed. If all of them have a request in progress,
// the new one waits until a request ends; more wait in the kernel.
//
// Its track must be the ConnState of the http.Server. It is safe for concurrent use.
type boundedListener struct {
	net.Listener
	max     int
	logger  *slog.Logger
	metrics *connectionMetrics

	// full and failing sample what is logged.
	full, failing sampler

	mu sync.Mutex
	// changed is signalled when a connection ends or becomes idle, and when the listener closes.
	changed sync.Cond
	open    int
	closed  bool
	// idle has the connections without a request in progress. The one that is so for longest is in
	// front.
	idle list.List
}

func newBoundedListener(
	l net.Listener, connectionsMax int, logger *slog.Logger, metrics *connectionMetrics,
) *boundedListener {
	b := &boundedListener{Listener: l, max: connectionsMax, logger: logger, metrics: metrics}
	b.changed.L = &b.mu
	metrics.max.Set(float64(connectionsMax))
	return b
}

// Accept returns the next connection once there is room for it. An error of the kernel, such as too
// many open files, is logged here: the server only retries.
func (l *boundedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		l.noteFailure(err)
		return nil, err
	}
	if buffered, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = buffered.SetWriteBuffer(sendBufferBytes) // Fails only if the client is gone.
	}
	bounded := &boundedConn{Conn: conn, listener: l}
	if !l.admit(bounded) {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return bounded, nil
}

func (l *boundedListener) noteFailure(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	l.metrics.acceptErrors.Inc()
	if held, ok := l.failing.pass(time.Now(), 1); ok {
		l.logger.Warn("accepting a connection failed", "listener", l.Addr().String(), "error", err, "more", held)
	}
}

// admit counts the connection as open, once there is room for it. It returns false if the listener
// closes first.
func (l *boundedListener) admit(c *boundedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open >= l.max && !l.closed {
		l.noteFull()
		if !l.closeIdlest() {
			l.changed.Wait()
		}
	}
	if l.closed {
		return false
	}
	l.open++
	l.metrics.open.Inc()
	c.idle = l.idle.PushBack(c) // It has no request yet.
	return true
}

func (l *boundedListener) noteFull() {
	if held, ok := l.full.pass(time.Now(), 1); ok {
		l.logger.Warn("clients have as many connections as they may", "listener", l.Addr().String(),
			"max", l.max, "idle", l.idle.Len(), "more", held)
	}
}

// closeIdlest closes the connection that has been idle for longest. It returns false if none is
// idle. The caller holds mu.
//
// A request may be on its way over that connection. Its client sees what it sees when any idle
// connection ends, and makes the request again.
func (l *boundedListener) closeIdlest() bool {
	front := l.idle.Front()
	if front == nil {
		return false
	}
	c := front.Value.(*boundedConn)
	_ = c.Conn.Close()
	l.forget(c)
	l.metrics.evicted.Inc()
	return true
}

// forget removes a connection that is closed. The caller holds mu.
func (l *boundedListener) forget(c *boundedConn) {
	if c.forgotten {
		return
	}
	c.forgotten = true
	l.setBusy(c)
	l.open--
	l.metrics.open.Dec()
	l.changed.Signal()
}

// setBusy removes the connection from those that are idle. The caller holds mu.
func (l *boundedListener) setBusy(c *boundedConn) {
	if c.idle != nil {
		l.idle.Remove(c.idle)
		c.idle = nil
	}
}

// track implements http.Server.ConnState. It notes when a request begins and ends.
func (l *boundedListener) track(conn net.Conn, state http.ConnState) {
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok { // A tls.Conn.
		conn = wrapped.NetConn()
	}
	c, ok := conn.(*boundedConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.forgotten:
	case state == http.StateActive:
		l.setBusy(c)
	case state == http.StateIdle && c.idle == nil:
		c.idle = l.idle.PushBack(c)
		l.changed.Signal()
	}
}

// Close closes the listener. Connections stay open.
func (l *boundedListener) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Broadcast()
	return err
}

// boundedConn is a connection of a boundedListener, which guards its fields.
type boundedConn struct {
	net.Conn
	listener *boundedListener
	// idle is the connection's place in the listener's list. It is nil while a request is in
	// progress.
	idle      *list.Element
	forgotten bool
}

// Close closes the connection. Then there is room for another one.
func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.forget(c)
	return err
}

// CloseWrite ends the sending side. net/http does so before it closes a connection whose client
// still sends, so that the client can read the response.
func (c *boundedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// connectionMetrics counts the connections of one listener.
type connectionMetrics struct {
	open, max             prometheus.Gauge
	evicted, acceptErrors prometheus.Counter
}

func newConnectionMetrics() *connectionMetrics {
	return &connectionMetrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paylatch_connections_open",
			Help: "Connections that clients have open to the API.",
		}),
		max: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paylatch_connections_max",
			Help: "Connections that clients may have open to the API at once.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paylatch_connections_evicted_total",
			Help: "Idle connections that were closed to make room for new ones.",
		}),
		acceptErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paylatch_accept_errors_total",
			Help: "Connections to the API that the operating system failed to accept, as for lack of open files.",
		}),
	}
}

func (m *connectionMetrics) register(r prometheus.Registerer) {
	r.MustRegister(m.open, m.max, m.evicted, m.acceptErrors)
}
