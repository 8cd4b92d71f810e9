package store

import (
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paylatch/paylatch/internal/secretfile"
)

// Access says how connections get in, for what can change while the program runs. It is used for
// each new connection. Connections that are open stay: PostgreSQL checks a password once.
type Access struct {
	// URL returns the URL that the store was opened with, as it is now. Its user, password and TLS
	// files are used. A URL of another database is not: that takes a restart.
	URL func() string
	// Password returns the password; nil if the URL, or the environment, has it.
	Password func() string
}

// access is an Access in use. Safe for concurrent use.
type access struct {
	password func() string
	// config is the URL as it is now, with its TLS files read.
	config *secretfile.Watched[*pgx.ConnConfig]
}

// errAnotherDatabase refuses to move a running process to another database.
var errAnotherDatabase = errors.New("names another host, port or database than at the start: " +
	"restart the process to use it")

func newAccess(url string, given Access, logger *slog.Logger) (*access, error) {
	if given.URL == nil {
		given.URL = func() string { return url }
	}
	var first *pgx.ConnConfig
	config, err := secretfile.Watch("database URL", func() (*pgx.ConnConfig, error) {
		config, err := pgx.ParseConfig(given.URL())
		if err != nil {
			return nil, urlFault(err)
		}
		if first == nil {
			first = config
		}
		if !sameDatabase(first, config) {
			return nil, errAnotherDatabase
		}
		return config, nil
	})
	config.LogTo(logger)
	return &access{password: given.Password, config: config}, err
}

// apply sets what a new connection needs to get in. config was parsed from an earlier state of the
// same URL.
func (a *access) apply(config *pgx.ConnConfig) {
	now := a.config.Current().Copy()
	config.User, config.Password = now.User, now.Password
	config.TLSConfig, config.Fallbacks = now.TLSConfig, now.Fallbacks
	if a.password != nil {
		config.Password = a.password()
	}
}

// sameDatabase reports whether two configurations lead to the same place.
func sameDatabase(a, b *pgx.ConnConfig) bool {
	return a.Database == b.Database && slices.Equal(hostsOf(a), hostsOf(b))
}

// host is one that a connection may lead to.
type host struct {
	name string
	port uint16
}

// hostsOf returns the hosts of a URL, in the order in which they are tried.
func hostsOf(config *pgx.ConnConfig) []host {
	hosts := []host{{config.Host, config.Port}}
	for _, fallback := range config.Fallbacks {
		hosts = append(hosts, host{fallback.Host, fallback.Port})
	}
	return slices.Compact(hosts) // sslmode allow and prefer try each host twice.
}

// ErrNoURL is the error of a text that is no URL. It does not say what is wrong: an error of the
// parser may hold a part of the password.
var ErrNoURL = errors.New("is no PostgreSQL URL")

// CheckURL returns an error if the text is no URL of PostgreSQL, or if a TLS file that it names
// cannot be used. The error never holds a password.
func CheckURL(url string) error {
	_, err := pgx.ParseConfig(url)
	return urlFault(err)
}

// urlFault returns the cause if it is in the TLS parameters, and ErrNoURL otherwise.
func urlFault(err error) error {
	if err == nil {
		return nil
	}
	parse, ok := errors.AsType[*pgconn.ParseConfigError](err)
	if !ok || parse.Unwrap() == nil {
		return ErrNoURL
	}
	cause := parse.Unwrap().Error()
	if strings.HasSuffix(parse.Error(), ": failed to configure TLS ("+cause+")") {
		return errors.New(cause)
	}
	return ErrNoURL
}
