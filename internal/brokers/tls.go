package brokers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/paylatch/paylatch/internal/tlsfile"
)

// TLSFiles names the files of TLS, in PEM form.
type TLSFiles struct {
	// CA has the authorities that the certificates of brokers are checked against. If it is empty,
	// those of the system are used.
	CA string
	// Client identifies the client. It is zero without mTLS.
	Client tlsfile.Pair
	// ServerName is the name that the certificates of brokers must have. If it is empty, it is the
	// host that was dialed.
	ServerName string
}

// TLS makes connections by TLS 1.2 or newer. New connections use the files as they are, at most a
// second old.
type TLS struct {
	files  TLSFiles
	client *tlsfile.Client
}

// NewTLS reads the files.
func NewTLS(files TLSFiles) (*TLS, error) {
	client, err := tlsfile.NewClient(files.CA, files.Client)
	if err != nil {
		return nil, err
	}
	return &TLS{files, client}, nil
}

func (t *TLS) logTo(logger *slog.Logger) { t.client.LogTo(logger) }

// config returns the configuration of a new connection to a host.
func (t *TLS) config(host string) *tls.Config {
	c := t.client.Config()
	c.ServerName = host
	if t.files.ServerName != "" {
		c.ServerName = t.files.ServerName
	}
	return c
}

// handshake returns the connection once the server has proved who it is.
func (t *TLS) handshake(ctx context.Context, plain net.Conn, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config := t.config(host)
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", explainHandshake(config.ServerName, err))
	}
	return tlsConn{conn}, nil
}

// tlsConn explains alerts. With TLS 1.3, a server looks at the client's certificate when the client
// has ended the handshake. So a client that is refused finds out when it reads.
type tlsConn struct{ *tls.Conn }

// Read implements net.Conn.
func (c tlsConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" &&
		strings.Contains(op.Err.Error(), "certificate") {
		err = fmt.Errorf("the broker refuses the client's certificate, PAYLATCH_KAFKA_TLS_CERT: %w", err)
	}
	return n, err
}

// explainHandshake adds the setting that is the usual cause.
func explainHandshake(name string, err error) error {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; PAYLATCH_KAFKA_TLS_CA names the authorities that are accepted", err)
	case errors.As(err, &host):
		return fmt.Errorf("%w; PAYLATCH_KAFKA_TLS_SERVER_NAME is the name to expect instead of %s", err, name)
	case errors.As(err, &record):
		return fmt.Errorf("%w; if this port has no TLS, PAYLATCH_KAFKA_TLS is off", err)
	case errors.Is(err, context.DeadlineExceeded):
		// Not as an error of a context, which franz-go would take for its caller's.
		return fmt.Errorf("no response within %s", DialTimeout)
	}
	return err
}
