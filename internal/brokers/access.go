// Package brokers connects to Kafka brokers: their addresses, TLS, and SASL. All Kafka clients of
// the project connect through an Access, so that each setting holds for all of them.
//
// Certificates, keys and passwords may be files. They are read again for new connections, so a
// rotation needs no restart.
package brokers

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/paylatch/paylatch/internal/tlsfile"
)

// DialTimeout bounds one attempt to connect to a broker, with the TLS handshake.
const DialTimeout = 3 * time.Second

// Access is where the brokers are, and how a client connects and logs in to them. It is safe for
// concurrent use, and all clients of a process should share one: they then share its files and
// tokens.
type Access struct {
	// Addresses are HOST:PORT, of the brokers to begin with.
	Addresses []string
	// TLS is nil for connections in plain text.
	TLS *TLS
	// Login is nil without SASL.
	Login *Login
}

// At returns the access to brokers that need neither TLS nor a login.
func At(addresses ...string) *Access { return &Access{Addresses: addresses} }

// Options returns what a franz-go client needs to connect. Options that come after them override
// them.
func (a *Access) Options() []kgo.Opt {
	options := []kgo.Opt{kgo.SeedBrokers(a.Addresses...), kgo.Dialer(a.Dial)}
	if m := a.SASL(); m != nil {
		options = append(options, kgo.SASL(m))
	}
	return options
}

// SASL returns the implementation of the mechanism, or nil.
func (a *Access) SASL() sasl.Mechanism {
	if a.Login == nil {
		return nil
	}
	return a.Login.mechanism()
}

// Dial connects to a broker, by TLS if there is one. It takes DialTimeout at most.
//
// A mechanism that sends a secret as it is needs TLS. Dial checks this also for the addresses that
// brokers advertise, and not only for the configured ones.
func (a *Access) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	plain, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn, err := a.secure(ctx, plain, address)
	if err != nil {
		_ = plain.Close()
		// As an error of dialing: franz-go then tries another broker.
		return nil, &net.OpError{Op: "dial", Net: network, Addr: plain.RemoteAddr(), Err: err}
	}
	return conn, nil
}

func (a *Access) secure(ctx context.Context, plain net.Conn, address string) (net.Conn, error) {
	if a.TLS != nil {
		return a.TLS.handshake(ctx, plain, address)
	}
	remote, isTCP := plain.RemoteAddr().(*net.TCPAddr)
	if a.Login != nil && a.Login.Mechanism.sendsSecret() && isTCP && !remote.IP.IsLoopback() {
		return nil, fmt.Errorf("%s: %s", address, needsTLS(a.Login.Mechanism))
	}
	return plain, nil
}

func needsTLS(m Mechanism) string {
	return fmt.Sprintf("%s sends a secret as it is: beyond this machine it needs PAYLATCH_KAFKA_TLS=on", m)
}

// LogTo makes faults of files that are read again go to the logger.
func (a *Access) LogTo(logger *slog.Logger) {
	if a.TLS != nil {
		a.TLS.logTo(logger)
	}
	if a.Login != nil {
		a.Login.logTo(logger)
	}
}

// Protection describes how connections are protected, such as "TLS, SCRAM-SHA-512". It is empty for
// plain text without a login.
func (a *Access) Protection() string {
	var parts []string
	if a.TLS != nil {
		parts = append(parts, "TLS")
		if a.TLS.files.Client != (tlsfile.Pair{}) {
			parts = append(parts, "client certificate")
		}
	}
	if a.Login != nil {
		parts = append(parts, string(a.Login.Mechanism))
	}
	return strings.Join(parts, ", ")
}

// LogValue returns how clients connect, without secrets.
func (a *Access) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Any("addresses", a.Addresses), slog.Bool("tls", a.TLS != nil)}
	if a.TLS != nil {
		attrs = append(attrs, slog.Bool("client_certificate", a.TLS.files.Client != (tlsfile.Pair{})))
	}
	if a.Login != nil {
		attrs = append(attrs, slog.String("mechanism", string(a.Login.Mechanism)))
	}
	return slog.GroupValue(attrs...)
}
