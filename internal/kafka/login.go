package kafka

import (
	"context"
	"net"
	"strconv"
	"time"

	kafkagosasl "github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/paylatch/paylatch/internal/brokers"
)

// mechanism makes a SASL mechanism of franz-go one of kafka-go, whose steps are the same. So both
// clients log in by the same code.
type mechanism struct{ sasl.Mechanism }

// Start implements sasl.Mechanism of kafka-go.
func (m mechanism) Start(ctx context.Context) (kafkagosasl.StateMachine, []byte, error) {
	broker := kafkagosasl.MetadataFromContext(ctx)
	session, first, err := m.Authenticate(ctx, net.JoinHostPort(broker.Host, strconv.Itoa(broker.Port)))
	return steps{session}, first, err
}

// steps are those of one login.
type steps struct{ sasl.Session }

// Next implements sasl.StateMachine of kafka-go.
func (s steps) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	return s.Challenge(challenge)
}

// loginConn bounds a login. kafka-go removes the deadline of a connection before it logs in, and
// would wait forever for a broker that does not respond. It sets another one for each request.
type loginConn struct {
	net.Conn
	until   time.Time
	removed bool
}

// SetDeadline keeps the deadline of the login when kafka-go removes that of the steps before.
func (c *loginConn) SetDeadline(t time.Time) error {
	if t.IsZero() && !c.removed {
		c.removed, t = true, c.until
	}
	return c.Conn.SetDeadline(t)
}

// dialLocked returns how kafka-go connects.
func dialLocked(access *brokers.Access) func(context.Context, string, string) (net.Conn, error) {
	if access.Login == nil {
		return access.Dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := access.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &loginConn{Conn: conn, until: time.Now().Add(dialTimeout)}, nil
	}
}
