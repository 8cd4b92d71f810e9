package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// relay is between a client and PostgreSQL, and sees what the client sends.
type relay struct {
	t testing.TB
	// Of the database, through the relay.
	url string
	// Its address.
	server  string
	cancels atomic.Int32
	opened  atomic.Int32
	// forgeKey changes the process id of BackendKeyData, as a pooler's own keys have another.
	forgeKey bool
	// What the server sends is lost.
	stalled atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

func newRelay(t testing.TB, databaseURL string) *relay {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, server: u.Host}
	u.Host = listener.Addr().String()
	r.url = u.String()
	t.Cleanup(func() {
		_ = listener.Close()
		r.reset()
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.opened.Add(1)
			go r.serve(client)
		}
	}()
	return r
}

// reset resets all connections.
func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.conns {
		_ = conn.Close()
	}
	r.conns = nil
}

// cancelRequest is the code of a CancelRequest, in place of a protocol version.
// Source: https://www.postgresql.org/docs/current/protocol-message-formats.html
const cancelRequest = 80877102

func (r *relay) serve(client net.Conn) {
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		_ = client.Close()
		return
	}
	r.mu.Lock()
	r.conns = append(r.conns, client, server)
	r.mu.Unlock()
	head := make([]byte, 8)
	if _, err := io.ReadFull(client, head); err != nil {
		return
	}
	if binary.BigEndian.Uint32(head[4:]) == cancelRequest {
		r.cancels.Add(1)
	}
	if _, err := server.Write(head); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	if r.forgeKey {
		r.copyForged(client, server)
	} else {
		r.copyUnlessStalled(client, server)
	}
	_ = client.Close()
}

// copyUnlessStalled copies what the server sends, or loses it.
func (r *relay) copyUnlessStalled(client io.Writer, server io.Reader) {
	buffer := make([]byte, 32<<10)
	for lost := false; ; {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		// A stream with a hole is of no use: all that follows is lost, too.
		lost = lost || r.stalled.Load()
		if lost {
			continue
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// copyForged copies the server's messages, and changes the first BackendKeyData.
func (r *relay) copyForged(client io.Writer, server io.Reader) {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		if head[0] == 'K' {
			binary.BigEndian.PutUint32(body, binary.BigEndian.Uint32(body)+1)
		}
		if _, err := client.Write(slices.Concat(head, body)); err != nil {
			return
		}
	}
}

// TestConnect_NoCancelRequest: whatever makes pgx abandon a statement, no CancelRequest leaves the
// process. The control is pgx with its defaults: it sends one.
func TestConnect_NoCancelRequest(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.create(f.payment("parties"))
	r := newRelay(t, f.url)

	plain, err := pgx.Connect(t.Context(), r.url)
	if err != nil {
		t.Fatal(err)
	}
	sleep := func(conn *pgx.Conn) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := conn.Exec(ctx, `select pg_sleep(60)`); err == nil {
			t.Error("the statement was not abandoned")
		}
	}
	sleep(plain)
	f.await("pgx's own CancelRequest", func() bool { return r.cancels.Load() == 1 })

	conn, err := openStore(t, r.url).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Over TLS the relay could not see a CancelRequest. The dial for it comes first.
	if err := conn.PgConn().CancelRequest(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "no CancelRequest is sent") {
		t.Errorf("CancelRequest: got %v, want a refusal", err)
	}
	sleep(conn)
	<-conn.PgConn().CleanupDone()

	s := openStore(t, r.url)
	blocked := f.payment("order-1")
	another := f.begin()
	if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(blocked.ID),
		uuid.UUID(f.payment("parties").ID)); err != nil {
		t.Fatal(err)
	}
	created := make(chan error, 1)
	go func() {
		_, _, err := s.Create(t.Context(), blocked)
		created <- err
	}()
	f.awaitBlocked(1)
	r.reset()
	wantUnavailable(t, receive(t, created))
	if n := r.cancels.Load(); n != 1 {
		t.Errorf("%d CancelRequests came, want only the control's", n)
	}
}

// TestConnect_PoolerRefused: a connection whose key names another process than the one that serves
// it leads through a pooler. All calls refuse it with one sentence.
func TestConnect_PoolerRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	r := newRelay(t, f.url)
	r.forgeKey = true
	s := openStore(t, r.url)
	calls := everyCall(t, t.Context(), s, f.payment("order-1"))
	calls["Ping"] = s.Ping(t.Context())
	_, calls["Own"] = s.Own(t.Context(), 0)
	_, calls["Register"] = s.Register(t.Context(), store.DeliveryFenced)
	_, calls["Snapshot"] = s.Snapshot(t.Context())
	_, calls["CloseCreateGate"] = s.CloseCreateGate(t.Context())
	_, calls["Operate"] = s.Operate(t.Context(), 0)
	_, calls["MigrateUp"] = store.MigrateUp(t.Context(), r.url, migrations.FS)
	examination, err := store.Examine(t.Context(), r.url)
	if err != nil {
		t.Fatal(err)
	}
	defer examination.Close()
	calls["Pooled"] = examination.Pooled(t.Context())
	for call, err := range calls {
		if !store.IsRefused(err) || !errors.Is(err, payment.ErrUnavailable) ||
			!strings.Contains(err.Error(), "pooler") {
			t.Errorf("%s: got %v, want a refusal that names the pooler", call, err)
		}
	}
}

// TestConnect_SettingsHold: each parameter on which the store depends has its value in every kind
// of connection, whatever role, database and URL say.
func TestConnect_SettingsHold(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	database := query[string](f, `select quote_ident(current_database())`)
	hostile := parts.HostileSettings()
	for name, value := range hostile {
		f.exec(`alter database ` + database + ` set ` + name + ` = ` + value)
	}
	s := openStore(t, withSetting(t, f.url, "statement_timeout", "1"))
	session, err := s.Own(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	check := func(kind string, conn *pgx.Conn, except ...string) {
		t.Helper()
		for name, want := range store.ConnectionSettings {
			if slices.Contains(except, name) {
				continue
			}
			var same bool
			sql := `select current_setting($1) = $2 or
				(select unit in ('ms', 's') and (current_setting($1) || case when current_setting($1) ~ '^\d+$'
				then unit else '' end)::interval =
					($2 || case when $2 ~ '^\d+$' then unit else '' end)::interval from pg_settings
					where name = lower($1))`
			if err := conn.QueryRow(t.Context(), sql, name, want).Scan(&same); err != nil {
				t.Fatal(err)
			}
			if !same {
				var got string
				_ = conn.QueryRow(t.Context(), `select current_setting($1)`, name).Scan(&got)
				t.Errorf("%s: %s is %q, want %q", kind, name, got, want)
			}
		}
	}
	if err := s.OnConn(t.Context(), func(conn *pgx.Conn) error { check("pool", conn); return nil }); err != nil {
		t.Fatal(err)
	}
	check("session", session.Conn(), "idle_session_timeout", "statement_timeout", "lock_timeout")
	for name := range store.ConnectionSettings {
		if _, tried := hostile[name]; !tried {
			t.Errorf("%s is set by the store and has no hostile value in the tests", name)
		}
	}
}
