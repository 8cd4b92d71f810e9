package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"

	"github.com/paylatch/paylatch/internal/secretfile"
)

// Client is the TLS side of a client. Safe for concurrent use.
type Client struct {
	watched *secretfile.Watched[*tls.Config]
}

// NewClient returns a client that trusts the authorities in the file ca, or those of the system
// without one, and that shows the certificate of the pair, if there is one. It shows it also to a
// server that asks for one of other authorities: the server's refusal is clearer than none.
func NewClient(ca string, pair Pair) (*Client, error) {
	watched, err := follow(ca, pair, func(pool *x509.CertPool, certificates []tls.Certificate) *tls.Config {
		config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
		if len(certificates) > 0 {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &certificates[0], nil
			}
		}
		return config
	})
	if err != nil {
		return nil, err
	}
	return &Client{watched}, nil
}

// Config returns the configuration of a new connection. The caller owns it. A server name is set by
// tls.Dialer and by clients of HTTP and Kafka.
func (c *Client) Config() *tls.Config { return c.watched.Current().Clone() }

// LogTo makes faults of later reads go to the logger.
func (c *Client) LogTo(logger *slog.Logger) { c.watched.LogTo(logger) }
