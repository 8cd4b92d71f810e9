package brokers

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/internal/tlsfile"
)

// Settings say how clients connect to the brokers. They have kong's tags, and command lines embed
// them.
type Settings struct {
	KafkaBrokers           Addresses       `env:"PAYLATCH_KAFKA_BROKERS" placeholder:"HOST:PORT,…" help:"Brokers to begin with."`
	KafkaTLS               Switch          `name:"kafka-tls" env:"PAYLATCH_KAFKA_TLS" default:"off" help:"on connects to the brokers by TLS 1.2 or newer; off is plain text."`
	KafkaTLSCA             string          `name:"kafka-tls-ca" env:"PAYLATCH_KAFKA_TLS_CA" placeholder:"PATH" help:"A PEM file with the authorities that the brokers' certificates are checked against; by default those of the system. Like each of these files, it is read again for new connections when it changes."`
	KafkaTLSCert           string          `name:"kafka-tls-cert" env:"PAYLATCH_KAFKA_TLS_CERT" placeholder:"PATH" help:"A PEM file with the client's certificate, if the brokers demand one."`
	KafkaTLSKey            string          `name:"kafka-tls-key" env:"PAYLATCH_KAFKA_TLS_KEY" placeholder:"PATH" help:"A PEM file with the key of the client's certificate."`
	KafkaTLSServerName     string          `name:"kafka-tls-server-name" env:"PAYLATCH_KAFKA_TLS_SERVER_NAME" placeholder:"HOST" help:"The name that each broker's certificate must have; by default the host of its address."`
	KafkaSASLMechanism     Mechanism       `name:"kafka-sasl-mechanism" env:"PAYLATCH_KAFKA_SASL_MECHANISM" placeholder:"NAME" help:"How to log in to the brokers: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM (with the credentials of the environment); by default not at all."`
	KafkaSASLUsername      string          `name:"kafka-sasl-username" env:"PAYLATCH_KAFKA_SASL_USERNAME" placeholder:"NAME" help:"The user of PLAIN and SCRAM."`
	KafkaSASLPassword      secretfile.Text `name:"kafka-sasl-password" env:"PAYLATCH_KAFKA_SASL_PASSWORD" placeholder:"SECRET" help:"The user's password. On the command line the process list shows it: use the variable or a file."`
	KafkaSASLPasswordFile  secretfile.File `name:"kafka-sasl-password-file" env:"PAYLATCH_KAFKA_SASL_PASSWORD_FILE" placeholder:"PATH" help:"A file with the user's password."`
	KafkaOAuthTokenURL     TokenURL        `name:"kafka-oauth-token-url" env:"PAYLATCH_KAFKA_OAUTH_TOKEN_URL" placeholder:"https://…" help:"Where OAUTHBEARER gets its tokens, by the client credentials grant."`
	KafkaOAuthCA           string          `name:"kafka-oauth-ca" env:"PAYLATCH_KAFKA_OAUTH_CA" placeholder:"PATH" help:"A PEM file with the authorities that the certificate of the token endpoint is checked against; by default those of the system."`
	KafkaOAuthClientID     string          `name:"kafka-oauth-client-id" env:"PAYLATCH_KAFKA_OAUTH_CLIENT_ID" placeholder:"NAME" help:"The client's name at the token endpoint."`
	KafkaOAuthClientSecret secretfile.Text `name:"kafka-oauth-client-secret" env:"PAYLATCH_KAFKA_OAUTH_CLIENT_SECRET" placeholder:"SECRET" help:"The client's secret. On the command line the process list shows it: use the variable or a file."`
	KafkaOAuthSecretFile   secretfile.File `name:"kafka-oauth-client-secret-file" env:"PAYLATCH_KAFKA_OAUTH_CLIENT_SECRET_FILE" placeholder:"PATH" help:"A file with the client's secret."`
	KafkaOAuthScope        string          `name:"kafka-oauth-scope" env:"PAYLATCH_KAFKA_OAUTH_SCOPE" placeholder:"SCOPE" help:"The scopes to request, with spaces between them; by default none."`
	KafkaOAuthExtensions   Extensions      `name:"kafka-oauth-extensions" env:"PAYLATCH_KAFKA_OAUTH_EXTENSIONS" placeholder:"NAME=VALUE,…" help:"SASL extensions to send to the brokers next to the token, such as logicalCluster and identityPoolId of Confluent Cloud."`
}

// KafkaAccess returns how clients connect. It reads the files, and connects to nothing. Call Faults
// before: settings that contradict each other are not looked at here.
func (s *Settings) KafkaAccess() (*Access, error) {
	a := &Access{Addresses: s.KafkaBrokers}
	var errTLS, errTokens error
	if s.KafkaTLS.on() {
		a.TLS, errTLS = NewTLS(TLSFiles{
			CA: s.KafkaTLSCA, Client: tlsfile.Pair{Cert: s.KafkaTLSCert, Key: s.KafkaTLSKey},
			ServerName: s.KafkaTLSServerName,
		})
	}
	if s.KafkaSASLMechanism != "" {
		a.Login = &Login{
			Mechanism: s.KafkaSASLMechanism, Username: s.KafkaSASLUsername,
			Password:    secretfile.Of(s.KafkaSASLPassword, s.KafkaSASLPasswordFile),
			credentials: newAWSCredentials(os.Getenv),
		}
	}
	if s.KafkaSASLMechanism == OAuthBearer {
		a.Login.Tokens, errTokens = NewTokens(TokenEndpoint{
			URL: string(s.KafkaOAuthTokenURL), CA: s.KafkaOAuthCA, ClientID: s.KafkaOAuthClientID,
			ClientSecret: secretfile.Of(s.KafkaOAuthClientSecret, s.KafkaOAuthSecretFile),
			Scopes:       strings.Fields(s.KafkaOAuthScope), Extensions: s.KafkaOAuthExtensions,
		})
	}
	if err := errors.Join(errTLS, errTokens); err != nil {
		return nil, err
	}
	return a, nil
}

// Faults returns what is missing, what has no use, and which files cannot be used.
func (s *Settings) Faults() []string {
	faults := slices.Concat(s.tlsFaults(), s.loginFaults(), s.tokenFaults())
	if len(faults) > 0 {
		return faults
	}
	if _, err := s.KafkaAccess(); err != nil {
		return strings.Split(err.Error(), "\n")
	}
	return nil
}

func (s *Settings) tlsFaults() (faults []string) {
	if !s.KafkaTLS.on() {
		faults = useless("kafka-tls is off",
			given{"kafka-tls-ca", s.KafkaTLSCA != ""}, given{"kafka-tls-cert", s.KafkaTLSCert != ""},
			given{"kafka-tls-key", s.KafkaTLSKey != ""}, given{"kafka-tls-server-name", s.KafkaTLSServerName != ""})
	}
	switch {
	case s.KafkaTLSCert != "" && s.KafkaTLSKey == "":
		faults = append(faults, missing("kafka-tls-key", "kafka-tls-cert"))
	case s.KafkaTLSKey != "" && s.KafkaTLSCert == "":
		faults = append(faults, missing("kafka-tls-cert", "kafka-tls-key"))
	}
	if i := slices.IndexFunc(s.KafkaBrokers, beyondLoopback); i >= 0 && !s.KafkaTLS.on() &&
		s.KafkaSASLMechanism.sendsSecret() {
		faults = append(faults, fmt.Sprintf("%s: %s is another host, and %s",
			settingName("kafka-sasl-mechanism"), s.KafkaBrokers[i], needsTLS(s.KafkaSASLMechanism)))
	}
	return faults
}

func (s *Settings) loginFaults() []string {
	all := []given{
		{"kafka-sasl-username", s.KafkaSASLUsername != ""},
		{"kafka-sasl-password", s.KafkaSASLPassword != "" || s.KafkaSASLPasswordFile.IsGiven()},
	}
	if m := s.KafkaSASLMechanism; !m.hasPassword() {
		return append(useless(mechanismIs(m), all...), s.credentialFaults()...)
	}
	return required("kafka-sasl-mechanism "+string(s.KafkaSASLMechanism), all...)
}

func (s *Settings) credentialFaults() []string {
	if s.KafkaSASLMechanism != AWSMSKIAM {
		return nil
	}
	if err := newAWSCredentials(os.Getenv).check(); err != nil {
		return []string{settingName("kafka-sasl-mechanism") + ": " + err.Error()}
	}
	return nil
}

func (s *Settings) tokenFaults() []string {
	all := []given{
		{"kafka-oauth-token-url", s.KafkaOAuthTokenURL != ""},
		{"kafka-oauth-client-id", s.KafkaOAuthClientID != ""},
		{"kafka-oauth-client-secret", s.KafkaOAuthClientSecret != "" || s.KafkaOAuthSecretFile.IsGiven()},
	}
	if s.KafkaSASLMechanism == OAuthBearer {
		return required("kafka-sasl-mechanism "+string(OAuthBearer), all...)
	}
	return useless(mechanismIs(s.KafkaSASLMechanism), append(all,
		given{"kafka-oauth-ca", s.KafkaOAuthCA != ""},
		given{"kafka-oauth-scope", s.KafkaOAuthScope != ""},
		given{"kafka-oauth-extensions", len(s.KafkaOAuthExtensions) > 0})...)
}

func mechanismIs(m Mechanism) string {
	if m == "" {
		return "kafka-sasl-mechanism is not given"
	}
	return "kafka-sasl-mechanism is " + string(m)
}

// given is a setting that is given or not.
type given struct {
	flag string
	is   bool
}

// useless returns a fault for each setting that is given without effect.
func useless(why string, all ...given) (faults []string) {
	for _, g := range all {
		if g.is {
			faults = append(faults, settingName(g.flag)+": has no use while --"+why)
		}
	}
	return faults
}

// required returns a fault for each setting that is not given.
func required(by string, all ...given) (faults []string) {
	for _, g := range all {
		if !g.is {
			faults = append(faults, missing(g.flag, by))
		}
	}
	return faults
}

func missing(flag, by string) string {
	return fmt.Sprintf("%s: is required with --%s", settingName(flag), by)
}

// settingName names a setting in faults as package cli does.
func settingName(flag string) string {
	return fmt.Sprintf("--%s (PAYLATCH_%s)", flag, strings.ToUpper(strings.ReplaceAll(flag, "-", "_")))
}
