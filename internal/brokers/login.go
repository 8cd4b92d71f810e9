package brokers

import (
	"context"
	"errors"
	"log/slog"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/paylatch/paylatch/internal/secretfile"
)

// Mechanism is a SASL mechanism, as Kafka names it. The empty Mechanism is no SASL.
type Mechanism string

// The mechanisms that clients can use.
const (
	Plain       Mechanism = "PLAIN"
	Scram256    Mechanism = "SCRAM-SHA-256"
	Scram512    Mechanism = "SCRAM-SHA-512"
	OAuthBearer Mechanism = "OAUTHBEARER"
	AWSMSKIAM   Mechanism = "AWS_MSK_IAM"
)

// hasPassword reports whether the mechanism needs a user and a password.
func (m Mechanism) hasPassword() bool { return m == Plain || m == Scram256 || m == Scram512 }

// EndsSessions reports whether brokers end a session of the mechanism, so that a client has to log
// in again (KIP-368).
func (m Mechanism) EndsSessions() bool { return m == OAuthBearer || m == AWSMSKIAM }

// sendsSecret reports whether the mechanism sends something that lets its reader log in. What
// AWS_MSK_IAM sends is valid for five minutes.
func (m Mechanism) sendsSecret() bool { return m == Plain || m == OAuthBearer || m == AWSMSKIAM }

// Login is how a client logs in by SASL. It gets its secret again for each connection, and each
// time that the broker demands it (KIP-368).
type Login struct {
	Mechanism Mechanism
	// Username and Password are those of PLAIN and SCRAM.
	Username string
	Password secretfile.Value
	// Tokens are those of OAUTHBEARER.
	Tokens *Tokens
	// credentials are those of AWS_MSK_IAM.
	credentials awsCredentials
}

func (l *Login) mechanism() sasl.Mechanism {
	switch l.Mechanism {
	case Plain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := l.password()
			return plain.Auth{User: l.Username, Pass: password}, err
		})
	case Scram256:
		return scram.Sha256(l.scram)
	case Scram512:
		return scram.Sha512(l.scram)
	case AWSMSKIAM:
		return aws.ManagedStreamingIAM(l.credentials.get)
	}
	return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
		token, err := l.Tokens.Token(ctx)
		return oauth.Auth{Token: token, Extensions: l.Tokens.endpoint.Extensions}, err
	})
}

func (l *Login) scram(context.Context) (scram.Auth, error) {
	password, err := l.password()
	return scram.Auth{User: l.Username, Pass: password}, err
}

var errNoPassword = errors.New("the Kafka password is empty")

func (l *Login) password() (string, error) {
	if password := l.Password.Current(); password != "" {
		return password, nil
	}
	return "", errNoPassword
}

func (l *Login) logTo(logger *slog.Logger) {
	l.Password.LogTo(logger)
	if l.Tokens != nil {
		l.Tokens.endpoint.ClientSecret.LogTo(logger)
		l.Tokens.trust.LogTo(logger)
	}
}
