package store_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/secretfile"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// secured is a store on a PostgreSQL that takes TLS only, with its password in a file.
type secured struct {
	*fixture
	server   *parts.SecurePostgres
	password string // The file.
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	server := parts.OwnSecurePostgres(t)
	s := &secured{server: server, password: filepath.Join(t.TempDir(), "password")}
	s.write(t, server.Password)
	access := s.access(t)
	if _, err := store.MigrateUp(t.Context(), server.URL(), migrations.FS, store.WithAccess(access)); err != nil {
		t.Fatal(err)
	}
	opened, err := store.Open(t.Context(), server.URL(), 10, store.WithAccess(access))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Close)
	s.fixture = &fixture{t: t, url: server.URL(), Store: opened}
	s.tenant = s.newTenant("acme")
	if err := s.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryFenced, make([]int64, 4)); err != nil {
		t.Fatal(err)
	}
	return s
}

// write replaces the password in the file.
func (s *secured) write(t *testing.T, password string) {
	t.Helper()
	next := s.password + ".new"
	err := errors.Join(os.WriteFile(next, []byte(password+"\n"), 0o600), os.Rename(next, s.password))
	if err != nil {
		t.Fatal(err)
	}
}

func (s *secured) access(t *testing.T) store.Access {
	t.Helper()
	file, err := secretfile.Open(s.password, nil)
	if err != nil {
		t.Fatal(err)
	}
	return store.Access{Password: file.Current}
}

// sessions opens a session of each kind, and returns how to close them.
func (s *secured) sessions() (end func(), err error) {
	owner, err := s.Own(s.t.Context(), 0)
	if err != nil {
		return nil, fmt.Errorf("own: %w", err)
	}
	presence, err := s.Register(s.t.Context(), store.DeliveryFenced)
	if err != nil {
		owner.Close()
		return nil, fmt.Errorf("register: %w", err)
	}
	return func() { owner.Close(); presence.Deregister() }, nil
}

const countSessions = `select count(*), count(*) filter (where ssl) from pg_stat_ssl join pg_stat_activity using (pid)
	where usename = 'paylatch' and backend_type = 'client backend'`

// TestTLS_VerifyFull: with verify-full each kind of connection works, and all of them are over TLS.
func TestTLS_VerifyFull(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	s.create(s.payment("one"))
	end, err := s.sessions()
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	if _, err := store.MigrationStatus(t.Context(), s.url, migrations.FS, store.WithAccess(s.access(t))); err != nil {
		t.Errorf("migrate: %v", err)
	}
	password, err := os.ReadFile(s.password)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(s.url)
	if err != nil {
		t.Fatal(err)
	}
	config.Password = strings.TrimSpace(string(password))
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var all, overTLS int
	err = conn.QueryRow(t.Context(), countSessions).Scan(&all, &overTLS)
	const sessions = 4 // One of the pool at least, an owner's, a replica's, and this one.
	if err != nil || all != overTLS || all < sessions {
		t.Errorf("got %d sessions, %d over TLS, %v; want at least %d, all over TLS", all, overTLS, err, sessions)
	}
}

// TestTLS_Refused: a server that cannot be verified, a clear connection and a client certificate
// that has expired are refused with the reason. Requests see a database that is away.
func TestTLS_Refused(t *testing.T) {
	t.Parallel()
	server := parts.OwnSecurePostgres(t)
	other := filepath.Join(t.TempDir(), "other.pem")
	parts.NewAuthority(t, "another authority").Write(t, other)
	valid, expired := t.TempDir(), t.TempDir()
	hour := time.Now().Add(time.Hour)
	access := store.Access{Password: func() string { return server.Password }}
	for name, row := range map[string]struct{ url, want string }{
		"verified":               {server.URL(), ""},
		"by certificate":         {server.URLOfCertificate(t, valid, hour), ""},
		"another authority":      {server.URL("sslrootcert=" + other), "certificate signed by unknown authority"},
		"another name":           {server.URLByName(), "not localhost"},
		"in clear":               {server.URL("sslmode=disable"), "no encryption"},
		"an expired certificate": {server.URLOfCertificate(t, expired, time.Now().Add(-time.Minute)), "certificate"},
	} {
		var err error
		// A server that refuses a client certificate closes the connection. Its alert may be lost.
		for range 20 {
			_, err = store.MigrateUp(t.Context(), row.url, migrations.FS, store.WithAccess(access))
			if err == nil || strings.Contains(err.Error(), row.want) {
				break
			}
		}
		text := fmt.Sprint(err)
		if (row.want == "") != (err == nil) || err != nil && !errors.Is(err, payment.ErrUnavailable) ||
			err != nil && !strings.Contains(text, row.want) || strings.Contains(text, server.Password) {
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
		if err != nil {
			t.Logf("%s: %v", name, err)
		}
	}
}

// creating creates payments by several clients until stop is called. It returns the first failure.
func (s *secured) creating(clients int, prefix string) (stop func() (created int, failed error)) {
	var mu sync.Mutex
	var created int
	var failed error
	ended := make(chan struct{})
	var running sync.WaitGroup
	for client := range clients {
		running.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-ended:
					return
				default:
				}
				key := prefix + "-" + strconv.Itoa(client) + "-" + strconv.Itoa(i)
				p, _, err := s.Create(s.t.Context(), s.payment(key))
				if err == nil {
					_, err = s.Find(s.t.Context(), s.tenant.TenantRef, p.ID)
				}
				mu.Lock()
				created++
				if failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	return func() (int, error) { close(ended); running.Wait(); return created, failed }
}

// TestTLS_PasswordRotation: the password changes under load, in the server first, and its file some
// time later. No request fails, also none that needs a new connection in between. New sessions use
// the new password, and one with the old password is refused.
func TestTLS_PasswordRotation(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	stop := s.creating(4, "before")
	s.server.SetPassword(t, "second")
	s.Reset() // All connections of the pool are opened again, with a password that is refused.
	if _, err := s.sessions(); err == nil {
		t.Error("a session was opened with the old password: the server did not change it")
	}
	time.Sleep(500 * time.Millisecond) // The operator needs a moment.
	s.write(t, "second")
	s.await("a session with the new password", func() bool {
		end, err := s.sessions()
		if err == nil {
			end()
		}
		return err == nil
	})
	created, err := stop()
	if err != nil || created == 0 {
		t.Errorf("got %d payments and %v, want some and no failure", created, err)
	}
}

// TestTLS_PasswordRefused: a password that stays wrong makes requests fail at once after a while,
// and the first right one ends that.
func TestTLS_PasswordRefused(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	tries := 0
	create := func() error {
		s.Reset() // No connection of before is used.
		tries++
		_, _, err := s.Create(t.Context(), s.payment(strconv.Itoa(tries)))
		return err
	}
	s.server.SetPassword(t, "second")
	s.await("a create that fails", func() bool {
		err := create()
		if err != nil && !errors.Is(err, payment.ErrUnavailable) {
			t.Fatalf("got %v, want a database that is not available", err)
		}
		return err != nil
	})
	s.write(t, "second")
	s.await("a create with the new password", func() bool { return create() == nil })
}

// TestTLS_CertificateRotation: the server gets a certificate of another authority, and clients get
// that authority before. No request fails. A client that does not trust it is refused.
func TestTLS_CertificateRotation(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	stop := s.creating(4, "rotation")
	next := parts.NewAuthority(t, "next authority")
	both := append(s.server.Authority.PEM(), next.PEM()...)
	if err := os.WriteFile(s.server.CA, both, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // A file is read at most once a second.
	s.server.Renew(t, next)
	old := filepath.Join(t.TempDir(), "old.pem")
	s.server.Authority.Write(t, old)
	strict := store.WithAccess(s.access(t))
	s.await("the server's new certificate", func() bool {
		_, err := store.MigrationStatus(t.Context(), s.server.URL("sslrootcert="+old), migrations.FS, strict)
		return err != nil && strings.Contains(err.Error(), "unknown authority")
	})
	s.Reset()
	end, err := s.sessions()
	if err != nil {
		t.Errorf("got %v, want sessions that trust the next authority", err)
	} else {
		end()
	}
	created, err := stop()
	if err != nil || created == 0 {
		t.Errorf("got %d payments and %v, want some and no failure", created, err)
	}
}

// TestAccess_URL: user and TLS files of the URL may change while the store is open. Another
// database is refused, and the log says that a restart is needed.
func TestAccess_URL(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	var mu sync.Mutex
	current := s.url
	set := func(url string) {
		mu.Lock()
		defer mu.Unlock()
		current = url
	}
	var log syncBuffer
	opened, err := store.Open(t.Context(), s.url, 3, store.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
		store.WithAccess(store.Access{Password: s.access(t).Password, URL: func() string {
			mu.Lock()
			defer mu.Unlock()
			return current
		}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Close)
	in := func() (user string) {
		conn, err := opened.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(t.Context()) }()
		if err := conn.QueryRow(t.Context(), `select current_user`).Scan(&user); err != nil {
			t.Fatal(err)
		}
		return user
	}
	if got := in(); got != "paylatch" {
		t.Fatalf("got user %s, want paylatch", got)
	}
	set(s.server.URLOfCertificate(t, t.TempDir(), time.Now().Add(time.Hour)))
	s.await("the user of the new URL", func() bool { return in() == "paylatch_cert" })
	set(strings.Replace(s.url, "/paylatch?", "/another?", 1))
	s.await("a warning of another database", func() bool {
		if got := in(); got != "paylatch_cert" {
			t.Fatalf("got user %s, want the one before", got)
		}
		return strings.Contains(log.String(), "restart the process")
	})
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu  sync.Mutex
	all strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
