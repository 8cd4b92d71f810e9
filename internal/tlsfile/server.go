package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"

	"github.com/paylatch/paylatch/internal/secretfile"
)

// Server is the TLS side of a listener. Safe for concurrent use.
type Server struct {
	watched *secretfile.Watched[*tls.Config]
}

// NewServer returns a server with the certificate of the pair. With a file clientCA a client may
// show a certificate, which one of these authorities must have signed.
//
// Sessions are not resumed then: a resumed session would show a certificate without the check, also
// one of an authority that was removed from the file.
func NewServer(pair Pair, clientCA string) (*Server, error) {
	if pair == (Pair{}) {
		return nil, ErrHalfPair
	}
	watched, err := follow(clientCA, pair, func(pool *x509.CertPool, certificates []tls.Certificate) *tls.Config {
		config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: certificates}
		if pool != nil {
			config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, pool
			config.SessionTicketsDisabled = true
		}
		return config
	})
	if err != nil {
		return nil, err
	}
	return &Server{watched}, nil
}

// protocols are those that a listener offers: HTTP/1.1 alone, see
// docs/adr/0042-tls-by-the-service.md.
var protocols = []string{"http/1.1"}

// Config returns the configuration of a listener; nil, which is none, for a nil server.
func (s *Server) Config() *tls.Config {
	if s == nil {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.watched.Current(), nil },
	}
}

// LogTo makes faults of later reads go to the logger.
func (s *Server) LogTo(logger *slog.Logger) { s.watched.LogTo(logger) }
