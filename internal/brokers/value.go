package brokers

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Each type of this file is the value of a setting. UnmarshalText checks it. A fault never holds a
// secret.

// Addresses are those of the brokers to begin with.
type Addresses []string

// UnmarshalText implements encoding.TextUnmarshaler.
//
// Other clients take a protocol or a password in front of an address. Those have settings of their
// own here, and a password must not appear in messages. It may hold a comma, so the whole text is
// looked at first.
func (a *Addresses) UnmarshalText(text []byte) error {
	*a = nil
	all := string(text)
	if all == "" {
		return nil
	}
	if strings.Contains(all, "@") {
		return errors.New("a broker's address is HOST:PORT, without user and password: those are " +
			"PAYLATCH_KAFKA_SASL_USERNAME and PAYLATCH_KAFKA_SASL_PASSWORD")
	}
	var faults []error
	for one := range strings.SplitSeq(all, ",") {
		one = strings.TrimSpace(one)
		faults = append(faults, checkAddress(one))
		*a = append(*a, one)
	}
	return errors.Join(faults...)
}

// Hint shows the form of the addresses.
func (a *Addresses) Hint() string { return "kafka-1:9092,kafka-2:9092" }

func checkAddress(s string) error {
	if protocol, _, found := strings.Cut(s, "://"); found {
		return fmt.Errorf("%q is no HOST:PORT: leave %s:// out; PAYLATCH_KAFKA_TLS and PAYLATCH_KAFKA_SASL_MECHANISM "+
			"say what it says", s, protocol)
	}
	_, port, err := net.SplitHostPort(s)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is no HOST:PORT", s)
	}
	return nil
}

// beyondLoopback reports whether an address is one of another host. A name other than localhost
// counts as one.
func beyondLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err != nil || !isLoopback(host)
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Switch is "on" or "off". It is no bool, which a flag without a value would set.
type Switch string

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Switch) UnmarshalText(text []byte) error {
	*s = Switch(text)
	switch *s {
	case "on", "off", "":
		return nil
	}
	return fmt.Errorf("%q is neither on nor off", text)
}

func (s Switch) on() bool { return s == "on" }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mechanism) UnmarshalText(text []byte) error {
	*m = Mechanism(text)
	switch *m {
	case "", Plain, Scram256, Scram512, OAuthBearer, AWSMSKIAM:
		return nil
	}
	return fmt.Errorf("%q is not one of %s, %s, %s, %s, %s", text, Plain, Scram256, Scram512, OAuthBearer, AWSMSKIAM)
}

// TokenURL is where tokens come from. The client sends its secret there, so it has https, or is on
// this machine.
type TokenURL string

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *TokenURL) UnmarshalText(text []byte) error {
	*t = TokenURL(text)
	if len(text) == 0 {
		return nil
	}
	u, err := url.Parse(string(text))
	switch {
	case err != nil || u.Host == "": // The error itself may hold a password.
		return errors.New("is no URL")
	case u.User != nil:
		return errors.New("holds a user: PAYLATCH_KAFKA_OAUTH_CLIENT_ID and PAYLATCH_KAFKA_OAUTH_CLIENT_SECRET " +
			"are for that")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return fmt.Errorf("%s must be https: the client's secret is sent there", u.Host)
	}
	return nil
}

// Extensions are SASL extensions of OAUTHBEARER (KIP-342).
type Extensions map[string]string

// extension is the form of RFC 7628, section 3.1.
var extension = regexp.MustCompile(`^[A-Za-z]+=[\x20-\x7e\t\r\n]+$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Extensions) UnmarshalText(text []byte) error {
	*e = Extensions{}
	if len(text) == 0 {
		return nil
	}
	for one := range strings.SplitSeq(string(text), ",") {
		name, value, _ := strings.Cut(one, "=")
		if !extension.MatchString(one) || name == "auth" { // That one is the token.
			return fmt.Errorf("%q is no NAME=VALUE with a name of letters", one)
		}
		(*e)[name] = value
	}
	return nil
}
