package api

import (
	"net"
	"syscall"
	"testing"
)

// sendBufferOf returns SO_SNDBUF of the next connection that l accepts.
func sendBufferOf(t *testing.T, l net.Listener) (bytes int) {
	t.Helper()
	dial(t, l.Addr().String())
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if bounded, ok := conn.(*boundedConn); ok {
		conn = bounded.Conn
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		bytes, failed = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return bytes
}

// TestAccept_SendBuffer: the kernel keeps little for a client that does not read. As the control,
// it would keep more without the bound.
func TestAccept_SendBuffer(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const bytesMax = 2 * sendBufferBytes // Linux doubles what is set.
	if bytes := sendBufferOf(t, l); bytes <= bytesMax {
		t.Fatalf("got %d bytes without the bound, want more than %d", bytes, bytesMax)
	}
	bounded := newBoundedListener(l, 10, quiet, newConnectionMetrics())
	t.Cleanup(func() { _ = bounded.Close() })
	if bytes := sendBufferOf(t, bounded); bytes > bytesMax {
		t.Errorf("got %d bytes, want at most %d", bytes, bytesMax)
	}
}
