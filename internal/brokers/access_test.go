package brokers

import (
	"errors"
	"net"
	"strings"
	"testing"
)

// faraway is a connection to another host.
type faraway struct{ net.Conn }

// RemoteAddr implements net.Conn.
func (faraway) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9092} }

// TestAccess_PlainText: a secret is not sent in plain text to the addresses that brokers advertise,
// either. The settings' check sees only those to begin with.
func TestAccess_PlainText(t *testing.T) {
	for m, refused := range map[Mechanism]bool{
		Plain: true, OAuthBearer: true, AWSMSKIAM: true, Scram256: false, Scram512: false,
	} {
		a := &Access{Login: &Login{Mechanism: m}}
		_, err := a.secure(t.Context(), faraway{}, "kafka-1:9092")
		want := "kafka-1:9092: " + string(m) + " sends a secret"
		if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one: %t", m, err, refused)
		}
	}
}

// TestAccess_Silent: a server that takes connections and does not respond is given up. The error is
// one of dialing, for which franz-go tries another broker, and not one of a context, which it takes
// for its caller's.
func TestAccess_Silent(t *testing.T) {
	t.Parallel()
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	trust, err := NewTLS(TLSFiles{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&Access{TLS: trust}).Dial(t.Context(), "tcp", silent.Addr().String())
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "dial" || !strings.Contains(err.Error(), "TLS handshake: no response within 3s") {
		t.Errorf("got error %v, want one of dialing, without a response", err)
	}
}
