package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

func wantRefused(t testing.TB, err error, words ...string) {
	t.Helper()
	if !store.IsRefused(err) {
		t.Errorf("got %v, want a refusal", err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("refusal %q does not say %q", err, word)
		}
	}
}

// TestServer_Encoding: text in a database of another encoding would be other text.
func TestServer_Encoding(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		url := parts.EmptyPostgresAs(t, ` encoding '`+encoding+`' lc_collate 'C' lc_ctype 'C' template template0`)
		_, err := store.MigrateUp(t.Context(), url, migrations.FS)
		wantRefused(t, err, encoding)
		wantRefused(t, openStore(t, url).Ping(t.Context()), encoding)
	}
}

// TestServer_OtherProduct: a server that speaks PostgreSQL's protocol and is another product is
// refused by every kind of connection.
func TestServer_OtherProduct(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	for _, product := range []string{
		"PostgreSQL 15.12-YB-2025.2.0.0-b0 on x86_64-pc-linux-gnu", "CockroachDB CCL v26.3.0",
		"PostgreSQL 13.14.0-RisingWave-2.4.0", "PostgreSQL 8.0.2 on i686-pc-linux-gnu, Redshift 1.0.1",
	} {
		f.exec(`create or replace function pg_catalog.version() returns text language sql stable as
			$$ select '` + product + `' $$`)
		wantRefused(t, openStore(t, f.url).Ping(t.Context()), "not PostgreSQL", product[:20])
		_, err := store.MigrateUp(t.Context(), f.url, migrations.FS)
		wantRefused(t, err, "not PostgreSQL", product[:20])
	}
	for _, product := range []string{
		"PostgreSQL 17.6 on x86_64-pc-linux-gnu", "PostgreSQL 15.4 on aarch64-unknown-linux-gnu (Aurora)",
	} {
		f.exec(`create or replace function pg_catalog.version() returns text language sql stable as
			$$ select '` + product + `' $$`)
		if err := openStore(t, f.url).Ping(t.Context()); err != nil {
			t.Errorf("%s: got %v, want no error", product, err)
		}
	}
}

// TestServer_Sequences: after a switchover by logical replication sequences begin again. A payment
// that comes then has a later seq than one that waits, and new parties and accounts have ids of
// their own.
func TestServer_Sequences(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	first := f.create(f.payment("first"))
	sequences := []string{"payments_seq", "parties_id_seq", "accounts_id_seq", "tenants_id_seq", "api_keys_id_seq"}
	if _, err := f.AddAPIKey(t.Context(), "acme", newKey(t), store.Unrestricted); err != nil {
		t.Fatal(err)
	}
	for _, sequence := range sequences {
		f.exec(`select setval($1::regclass, 1, false)`, sequence)
	}
	after := &fixture{t: t, url: f.url, db: f.db, Store: openStore(t, f.url), tenant: f.tenant}
	second := after.create(after.payment("second", func(c *payment.Content) { c.Originator.Name = "Brand New" }))
	if second.Seq <= first.Seq {
		t.Errorf("the later payment has seq %d, the one that waits %d", second.Seq, first.Seq)
	}
	if _, err := after.AddAPIKey(t.Context(), "acme", newKey(t), store.Unrestricted); err != nil {
		t.Error(err)
	}
	after.newTenant("other")
}

// TestServer_Check: the checks of a server catch what they are for. Advisory locks belong to a
// database, so two databases are a server whose locks do not exclude; a cache makes numbers go
// back.
func TestServer_Check(t *testing.T) {
	t.Parallel()
	f, other := newFixture(t, 1), newFixture(t, 1)
	connect := func(s *store.Store) *pgx.Conn {
		t.Helper()
		conn, err := s.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	if err := store.CheckServer(t.Context(), connect(f.Store), connect(f.Store)); err != nil {
		t.Errorf("PostgreSQL is refused: %v", err)
	}
	wantRefused(t, store.CheckServer(t.Context(), connect(f.Store), connect(other.Store)), "advisory lock")
	a, b := connect(f.Store), connect(f.Store)
	for _, change := range []string{`cache 100`, `cache 1 increment -1 minvalue -9 maxvalue 9`, `cache 1 cycle`} {
		f.exec(`alter sequence payments_seq increment 1 no minvalue no maxvalue no cycle`)
		f.exec(`alter sequence payments_seq ` + change)
		wantRefused(t, store.CheckServer(t.Context(), a, b), "payments_seq", "cache")
		wantRefused(t, openStore(t, f.url).Ping(t.Context()), "payments_seq", "cache")
	}
}

// TestServer_CheckDraws: a server that ignores the cache of a sequence, as YugabyteDB does, is
// found by the numbers that it gives.
func TestServer_CheckDraws(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	var conns [2]*pgx.Conn
	for i := range conns {
		conn, err := f.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		conns[i] = conn
	}
	f.exec(`alter sequence payments_seq cache 100`)
	wantRefused(t, store.DrawNumbers(t.Context(), conns[0], conns[1]), "a sequence gave")
}

// TestServer_SchemaVersion: a program runs on its own version of the schema and on the next one.
func TestServer_SchemaVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	latest := migrations.Latest()
	for version, want := range map[int32]func(error){
		latest - 1: func(err error) { wantUnavailable(t, err, "paylatch migrate up") },
		latest: func(err error) {
			if err != nil {
				t.Error(err)
			}
		},
		latest + 1: func(err error) {
			if err != nil {
				t.Error(err)
			}
		},
		latest + 2: func(err error) { wantRefused(t, err, fmt.Sprint(latest+2)) },
	} {
		f.exec(`update schema_version set version = $1`, version)
		want(openStore(t, f.url).Ping(t.Context()))
	}
}

// TestServer_NextVersion: an update is rolled back over a schema that is one version ahead: there
// is nothing to migrate, and nothing is taken back.
func TestServer_NextVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	next := migrations.Latest() + 1
	f.exec(`update schema_version set version = $1`, next)
	schema, err := store.MigrateUp(t.Context(), f.url, migrations.FS)
	if err != nil || schema.Current != next {
		t.Errorf("up: got version %d, %v, want %d", schema.Current, err, next)
	}
	if _, err := store.MigrateDown(t.Context(), f.url, migrations.FS); err == nil {
		t.Error("a version of another program was taken back")
	}
	f.exec(`update schema_version set version = $1`, next+1)
	if _, err := store.MigrateUp(t.Context(), f.url, migrations.FS); err == nil {
		t.Error("a schema two versions ahead was accepted")
	}
}

// TestServer_OtherSchema: the installation is in the schema that the URL names, for a role that may
// not create in public. A second installation in the database is refused.
func TestServer_OtherSchema(t *testing.T) {
	t.Parallel()
	empty := parts.EmptyPostgres(t)
	db := openDB(t, empty)
	if _, err := db.Exec(t.Context(), `drop schema public`); err != nil {
		t.Fatal(err)
	}
	url := withSetting(t, empty, "search_path", "app")
	if _, err := store.MigrateUp(t.Context(), url, migrations.FS); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, url: url, db: openDB(t, url), Store: openStore(t, url)}
	f.tenant = f.newTenant("acme")
	if err := f.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryFenced, make([]int64, 1)); err != nil {
		t.Fatal(err)
	}
	f.create(f.payment("order-1"))
	if n := query[int](f, `select count(*) from app.payments`); n != 1 {
		t.Errorf("%d payments are in the schema, want 1", n)
	}
	if _, err := db.Exec(t.Context(), `create schema public`); err != nil {
		t.Fatal(err)
	}
	_, err := store.MigrateUp(t.Context(), empty, migrations.FS)
	wantRefused(t, err, `"app"`, "one installation")
	if _, err := store.Open(t.Context(), withSetting(t, empty, "search_path", "a,b"), 3); err == nil {
		t.Error("a search_path of two schemas was accepted")
	}
}

// TestServer_Publication: a publication for all tables wants a key of each table that is updated,
// also of the one that an earlier tern made without one.
func TestServer_Publication(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{
		"New":   `select`,
		"Older": `create table schema_version (version integer not null)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := parts.EmptyPostgres(t)
			db := openDB(t, url)
			for _, sql := range []string{before, `create publication everything for all tables`} {
				if _, err := db.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			if schema, err := store.MigrateUp(t.Context(), url, migrations.FS); err != nil ||
				schema.Current != migrations.Latest() {
				t.Errorf("got version %d, %v", schema.Current, err)
			}
		})
	}
}
