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
// PostgreSQL takes such a request, while a commit waits for its synchronous standby, as "stop
// waiting": the row becomes visible although no standby has it. So none may leave this process.
// Source: https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION-HA
var errNoCancelRequest = errors.New("no CancelRequest is sent: it would end the wait of a commit for its standby")

// dialer opens the network connection of one database connection, and refuses to open a second one
// to a server that has authenticated it: that could only be for a CancelRequest, which pgx sends
// whenever it gives a statement up (pgconn.asyncClose). Safe for concurrent use.
type dialer struct {
	mu sync.Mutex
	// Addresses, as RemoteAddr has them.
	authenticated map[string]bool
}

const (
	// A server that is gone without a word is noticed within 5 + 5 × 1 s, also while a commit waits
	// there, since the kernel of a server that lives answers the probes.
	keepAliveIdle     = 5 * time.Second
	keepAliveInterval = time.Second
	keepAliveCount    = 5
)

// guard makes config open its connections by a dialer of their own.
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

// validate implements pgconn.ValidateConnectFunc: of several hosts only one that takes writes will
// do.
func (d *dialer) validate(ctx context.Context, conn *pgconn.PgConn) error {
	d.mu.Lock()
	d.authenticated[conn.Conn().RemoteAddr().String()] = true
	d.mu.Unlock()
	return pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn)
}
