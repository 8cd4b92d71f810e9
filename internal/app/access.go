package app

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/internal/store"
)

// DatabaseSettings name the database and say how to get in.
type DatabaseSettings struct {
	DatabaseURL          DatabaseURL     `env:"PAYLATCH_DATABASE_URL" placeholder:"postgres://…" help:"PostgreSQL 15 or newer, itself: a connection pooler is refused. On the command line the process list shows a password in it: use the variable or a file."`
	DatabaseURLFile      DatabaseURLFile `name:"database-url-file" env:"PAYLATCH_DATABASE_URL_FILE" placeholder:"PATH" help:"A file with the URL. User and password in it are read again for new connections when the file changes."`
	DatabasePassword     secretfile.Text `env:"PAYLATCH_DATABASE_PASSWORD" placeholder:"SECRET" help:"The password, if the URL has none. On the command line the process list shows it: use the variable or a file."`
	DatabasePasswordFile secretfile.File `name:"database-password-file" env:"PAYLATCH_DATABASE_PASSWORD_FILE" placeholder:"PATH" help:"A file with the password, which is read again for new connections when it changes."`
}

// DatabaseURLFile is a file with a DatabaseURL.
type DatabaseURLFile struct{ secretfile.File }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *DatabaseURLFile) UnmarshalText(path []byte) (err error) {
	*f = DatabaseURLFile{}
	if len(path) > 0 {
		f.File, err = secretfile.Open(string(path), func(text string) error {
			return new(DatabaseURL).UnmarshalText([]byte(text))
		})
	}
	return err
}

// Warning returns a sentence if all users may read the file, or if the connection is not verified.
func (f DatabaseURLFile) Warning() string {
	return strings.Join(slices.DeleteFunc([]string{f.File.Warning(), DatabaseURL(f.Current()).Warning()},
		func(s string) bool { return s == "" }), "; ")
}

// Warning returns a sentence if another machine could take the place of the database.
func (u DatabaseURL) Warning() string {
	transport, err := store.TransportOf(string(u))
	if u == "" || err != nil || len(transport.Unverified) == 0 {
		return ""
	}
	return fmt.Sprintf("connections to %s are not verified (sslmode=%s): another machine could take its place, "+
		"and read passwords and payments; use sslmode=verify-full with sslrootcert",
		strings.Join(transport.Unverified, " and "), transport.SSLMode)
}

// sslMode returns the mode for the log.
func (u DatabaseURL) sslMode() string {
	transport, _ := store.TransportOf(string(u)) // It was checked.
	return transport.SSLMode
}

// URL returns where the database is, from the setting or from the file.
func (s DatabaseSettings) URL() DatabaseURL {
	if s.DatabaseURLFile.IsGiven() {
		return DatabaseURL(s.DatabaseURLFile.Current())
	}
	return s.DatabaseURL
}

// Faults returns the fault of a password that is given twice. None of them holds it.
func (s DatabaseSettings) Faults() (faults []string) {
	if !s.URL().hasPassword() {
		return nil
	}
	url := settingName("database-url")
	if s.DatabaseURLFile.IsGiven() {
		url = settingName("database-url-file")
	}
	if s.DatabasePassword != "" {
		faults = append(faults, fmt.Sprintf("%s has a password, and %s gives one: give it once", url,
			settingName("database-password")))
	}
	if s.DatabasePasswordFile.IsGiven() {
		faults = append(faults, fmt.Sprintf("%s has a password, and %s gives one: give it once", url,
			settingName("database-password-file")))
	}
	return faults
}

// access returns how connections get in. What it reads again goes to the logger if it is at fault.
func (s DatabaseSettings) access(logger *slog.Logger) store.Access {
	password := secretfile.Of(s.DatabasePassword, s.DatabasePasswordFile)
	if logger != nil {
		s.DatabaseURLFile.LogTo(logger)
		password.LogTo(logger)
	}
	a := store.Access{URL: func() string { return string(s.URL()) }}
	if password.IsGiven() {
		a.Password = password.Current
	}
	return a
}

// Access returns how a command without a log connects.
func (s DatabaseSettings) Access() store.Access { return s.access(nil) }

// settingName names a setting in faults as package cli does.
func settingName(flag string) string {
	return fmt.Sprintf("--%s (PAYLATCH_%s)", flag, strings.ToUpper(strings.ReplaceAll(flag, "-", "_")))
}
