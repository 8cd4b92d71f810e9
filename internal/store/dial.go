package store

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// errNoCancelRequest refuses the connection over which pgx would send a CancelRequest.
//
// While a commit waits for its synchronous standby, PostgreSQL takes such a request as "stop
// waiting": the row becomes visible although no standby has it. So this process must send none.
// Source: https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION-HA
var errNoCancelRequest = errors.New("no CancelRequest is sent: it would end the wait of a commit for its standby")

// dialer opens the network connection of one database connection. It refuses to open a second one
// to a server that has authenticated it. That could only be for a CancelRequest, which pgx sends
// when it abandons a statement (pgconn.asyncClose). Safe for concurrent use.
type dialer struct {
	mu sync.Mutex
	// authenticated has addresses in the form of RemoteAddr.
	authenticated map[string]bool
}

const (
	// A server that has vanished is noticed within 5 + 5 × 1 s, also while a commit waits there:
	// the kernel of a live server responds to the probes.
	keepAliveIdle     = 5 * time.Second
	keepAliveInterval = time.Second
	keepAliveCount    = 5
)

// guard gives config a dialer of its own.
func guard(config *pgconn.Config) {
	d := &dialer{authenticated: map[string]bool{}}
	config.DialFunc = d.dial
	config.ValidateConnect = d.validate
}

// dial implements pgconn.DialFunc.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	refused := d.authenticated[address] || network == "unix" && len(d.authenticated) > 0
	d.mu.Unlock()
	if refused {
		return nil, errNoCancelRequest
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}}
	return dialer.DialContext(ctx, network, address)
}

// validate implements pgconn.ValidateConnectFunc. Of several hosts it accepts only one that takes
// writes.
func (d *dialer) validate(ctx context.Context, conn *pgconn.PgConn) error {
	d.mu.Lock()
	d.authenticated[conn.Conn().RemoteAddr().String()] = true
	d.mu.Unlock()
	return pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn)
}
