package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

// Each type of this file is the value of a flag. UnmarshalText checks it; package cli reports the
// faults of all flags together. A fault never holds a secret.

// DatabaseURL is where the database is, with the password. It is shown without the password;
// convert it to a string to connect.
type DatabaseURL string

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *DatabaseURL) UnmarshalText(text []byte) error {
	s := string(text)
	isURL := strings.Contains(s, "://")
	switch err := store.CheckURL(s); {
	case isURL && (misread(s) || errors.Is(err, store.ErrNoURL)):
		return errors.New("is no PostgreSQL URL; if the password has reserved characters, " +
			"percent-encode the password")
	case err != nil:
		return err
	}
	*u = DatabaseURL(s)
	return nil
}

// Secret reports whether the URL holds a password.
func (u DatabaseURL) Secret() bool { return u.hasPassword() }

// passwordPair matches a password in key=value form.
var passwordPair = regexp.MustCompile(`(^|\s)(ssl)?password\s*=`)

// hasPassword reports whether the URL itself holds a password. The environment may hold one, too.
func (u DatabaseURL) hasPassword() bool {
	if !strings.Contains(string(u), "://") {
		return passwordPair.MatchString(string(u))
	}
	parsed, err := url.Parse(string(u))
	if err != nil { // Several hosts with ports: PostgreSQL's own form.
		_, rest, _ := strings.Cut(string(u), "://")
		user, _, found := strings.Cut(rest, "@")
		return found && strings.Contains(user, ":")
	}
	_, given := parsed.User.Password()
	return given || parsed.Query().Has("password")
}

// Hint shows the form of a database URL.
func (u *DatabaseURL) Hint() string { return "postgres://user:password@host:5432/database" }

// misread reports whether a part of the password seems to have been taken for something else. A
// password with "/", "?" or "#" ends the authority of the URL: its rest, and the "@" behind it, are
// then found in the path, the query or the fragment, and would appear in messages.
func misread(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Fragment != "" || strings.Contains(u.Path, "@") {
		return true
	}
	for key, values := range u.Query() {
		switch key {
		case "user", "password", "application_name", "options": // An "@" is usual there.
			continue
		}
		if strings.Contains(key+strings.Join(values, ""), "@") {
			return true
		}
	}
	return false
}

// String returns where the database is, without how one gets in. PostgreSQL takes the password in
// the authority, in the query, and in key=value form.
func (u DatabaseURL) String() string {
	config, err := pgx.ParseConfig(string(u))
	if err != nil {
		return "***"
	}
	address := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	return fmt.Sprintf("postgres://%s:***@%s/%s", config.User, address, config.Database)
}

// GoString masks the password for %#v, too.
func (u DatabaseURL) GoString() string { return u.String() }

// MarshalText masks the password in JSON.
func (u DatabaseURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Brokers are the addresses of the Kafka brokers to begin with.
type Brokers = brokers.Addresses

// Address is a HOST:PORT to listen on.
type Address string

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Address) UnmarshalText(text []byte) error {
	*a = Address(text)
	return checkAddress(string(text))
}

// Hosts are names of hosts, in lower case.
type Hosts []string

// hostName is a name of RFC 1123 section 2.1, and the underscore that Docker Compose allows.
var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hosts) UnmarshalText(text []byte) error {
	const nameBytesMax = 253 // RFC 1035 section 2.3.4, as text.
	*h = nil
	var faults []error
	for one := range strings.SplitSeq(string(text), ",") {
		one = strings.ToLower(strings.TrimSpace(one))
		if len(one) > nameBytesMax || !hostName.MatchString(one) {
			faults = append(faults, fmt.Errorf("%.300q is no name of a host", one))
		}
		*h = append(*h, one)
	}
	return errors.Join(faults...)
}

func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is no HOST:PORT", s)
	}
	return nil
}

// LogLevel is the least level that is logged.
type LogLevel slog.Level

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *LogLevel) UnmarshalText(text []byte) error {
	if err := (*slog.Level)(l).UnmarshalText(text); err != nil {
		return fmt.Errorf("%q is not one of debug, info, warn, error", text)
	}
	return nil
}

// String returns the level's name.
func (l LogLevel) String() string { return slog.Level(l).String() }

// Delivery is how payments are emitted.
type Delivery store.Delivery

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Delivery) UnmarshalText(text []byte) error {
	*d = Delivery(text)
	if one := store.Delivery(text); one != store.DeliveryFenced && one != store.DeliveryLocked {
		return fmt.Errorf("%q is neither %s nor %s", text, store.DeliveryFenced, store.DeliveryLocked)
	}
	return nil
}

// Source is the ce_source of the events.
type Source string

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Source) UnmarshalText(text []byte) error {
	const bytesMax = 255 // It is in every event, and an event has 8 KiB.
	*s = Source(text)
	u, err := url.Parse(string(text))
	if len(text) == 0 || len(text) > bytesMax || err != nil || u.String() != string(text) {
		return fmt.Errorf("%.40q is no URI reference of at most %d bytes", text, bytesMax)
	}
	return nil
}

// Rate is a number of requests per second; 0 is no limit.
type Rate float64

// UnmarshalText implements encoding.TextUnmarshaler. A rate below the least one is refused and not
// rounded to 0, which would be no limit at all.
func (r *Rate) UnmarshalText(text []byte) error {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || f != 0 && !(f >= api.TenantRateMin && f <= api.TenantRateMax) { // NaN is neither.
		return fmt.Errorf("%q is neither 0, for no limit, nor a number from %v to %d",
			text, api.TenantRateMin, api.TenantRateMax)
	}
	*r = Rate(f)
	return nil
}

// InFlight is a number of requests under way at once; 0 is no limit.
type InFlight int

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *InFlight) UnmarshalText(text []byte) error {
	const requestsMax = 1_000_000 // Beyond the connections that a process can have.
	return parseInteger(n, text, 0, requestsMax)
}

// ClientConnections is the number of connections that clients may have open at once; 0 is derived.
type ClientConnections int

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *ClientConnections) UnmarshalText(text []byte) error {
	const connectionsMax = 1_000_000 // 13 GB of idle connections.
	return parseInteger(n, text, 0, connectionsMax)
}

// BatchMax is the number of payments in one batch at most.
type BatchMax int

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *BatchMax) UnmarshalText(text []byte) error {
	return parseInteger(n, text, 1, 10*sender.BatchMaxDefault)
}

// Connections is the number of pooled database connections at most.
type Connections int32

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Connections) UnmarshalText(text []byte) error { return parseInteger(n, text, 1, 1000) }

// Partitions is the number of partitions of a new topic.
type Partitions int32

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Partitions) UnmarshalText(text []byte) error {
	return parseInteger(n, text, 1, operator.PartitionsMax)
}

// Replication is the replication factor of a new topic; 0 is the default of the brokers.
type Replication int16

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Replication) UnmarshalText(text []byte) error { return parseInteger(n, text, 0, 100) }

// Topic is the name of the topic.
type Topic string

// topicForm is what Kafka accepts as the name of a topic.
var topicForm = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Topic) UnmarshalText(text []byte) error {
	*t = Topic(text)
	if !topicForm.Match(text) || *t == "." || *t == ".." {
		return fmt.Errorf("%q is no topic name: letters, digits, dot, hyphen, underscore", text)
	}
	return nil
}

// DrainDelay is how long a process that is to stop continues to serve.
type DrainDelay time.Duration

// UnmarshalText implements encoding.TextUnmarshaler. The slowest balancer needs less than the
// longest delay. A longer one is a mistake, and would hold a rollout.
func (d *DrainDelay) UnmarshalText(text []byte) error {
	return parseDuration(d, text, 0, 10*time.Minute)
}

// String returns the duration as Go writes it.
func (d DrainDelay) String() string { return time.Duration(d).String() }

// ShutdownTimeout is how long a stop may take.
type ShutdownTimeout time.Duration

// UnmarshalText implements encoding.TextUnmarshaler. A time-out below that of a batch would cut
// every stop short; one that is longer than an orchestrator waits has no use.
func (d *ShutdownTimeout) UnmarshalText(text []byte) error {
	return parseDuration(d, text, time.Second, 10*time.Minute)
}

// String returns the duration as Go writes it.
func (d ShutdownTimeout) String() string { return time.Duration(d).String() }

func parseInteger[T ~int | ~int16 | ~int32](to *T, text []byte, least, most T) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < int(least) || n > int(most) {
		return fmt.Errorf("%q is no number from %d to %d", text, least, most)
	}
	*to = T(n)
	return nil
}

func parseDuration[T ~int64](to *T, text []byte, least, most time.Duration) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < least || d > most {
		return fmt.Errorf("%q is no duration from %s to %s", text, least, most)
	}
	*to = T(d)
	return nil
}
