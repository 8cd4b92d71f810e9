package store_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// as returns a connection that has the rights of a role.
func (f *fixture) as(role string) *pgx.Conn {
	f.t.Helper()
	conn, err := parts.Connect(f.t.Context(), f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(f.t.Context())) })
	if _, err := conn.Exec(f.t.Context(), `set role `+role); err != nil {
		f.t.Fatal(err)
	}
	return conn
}

// wantDenied executes a statement, which must fail with an error that contains the words.
func wantDenied(t *testing.T, conn *pgx.Conn, sql, words string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: got %v, want an error with %q", sql, err, words)
	}
}

// openDefiners are the functions that anybody may execute with the rights of their owner.
const openDefiners = `select coalesce(string_agg(proname, ', '), '') from pg_proc p
	where prosecdef and pronamespace = 'public'::regnamespace
		and (proacl is null or exists (select from aclexplode(proacl)
			where grantee = 0 and privilege_type = 'EXECUTE'))`

// TestDefiner_NotPublic: no function runs with its owner's rights for everybody. The control is one
// that does.
func TestDefiner_NotPublic(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	if open := query[string](f, openDefiners); open != "" {
		t.Errorf("got %s, want none", open)
	}
	f.exec(`create function lure() returns void language sql security definer as 'select'`)
	if open := query[string](f, openDefiners); open != "lure" {
		t.Errorf("control: got %q, want lure", open)
	}
}

// lure is a table like the operator's log whose rows have a cast of the attacker. The function that
// appends to the log would execute that with the rights of the schema's owner.
const lure = `create temp table lure (seq bigint, format smallint, at timestamptz, system_id bigint, timeline int,
		database_id bigint, table_id bigint, role text, client_address text, os_user text, host text, version text,
		command text, action text, phase text, begun bigint, result text, arguments json, before json, after json,
		previous bytea, hash bytea);
	create function pg_temp.cast_lure(r pg_temp.lure) returns operator_log language plpgsql as $$
		begin raise exception 'code of % ran', session_user; end $$;
	create cast (pg_temp.lure as operator_log) with function pg_temp.cast_lure(pg_temp.lure) as implicit`

const bait = `create trigger bait before insert on lure for each row execute function operator_log_append()`

// TestOperatorLog_OtherTable: the function that appends to the log is for that table alone, also
// for a role that may execute it.
func TestOperatorLog_OtherTable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	role := f.role()
	f.exec(`grant usage on schema public to ` + role)
	conn := f.as(role)
	if _, err := conn.Exec(t.Context(), lure); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, conn, bait, "permission denied for function operator_log_append")
	f.exec(`grant execute on function operator_log_append() to ` + role)
	if _, err := conn.Exec(t.Context(), bait); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, conn, `insert into lure (begun) values (0)`, "only for operator_log")
	if _, err := conn.Exec(t.Context(), `drop table lure cascade`); err != nil {
		t.Fatal(err)
	}
}

// insertRow inserts a row as a program does.
const insertRow = `insert into operator_log (os_user, host, version, command, action, phase, begun, result, arguments,
	before, after) values ('u', 'h', 'v', 'c', 'op', $1, $2, $3, '{}', '{}', '{}') `

// TestOperatorLog_EndsOnce: the head stays that of the last row when a row is refused, whatever the
// statement says about conflicts. Only the role that began an operation ends it.
func TestOperatorLog_EndsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.exec(insertRow, "begun", 0, "")
	begun := query[int64](f, `select max(seq) from operator_log`)
	f.exec(insertRow, "ended", begun, "failed")
	head := `select h.seq = (select max(seq) from operator_log) from operator_log_head h`
	for _, conflict := range []string{"", "on conflict do nothing"} {
		_, err := f.db.Exec(t.Context(), insertRow+conflict, "ended", begun, "succeeded")
		if err == nil || !strings.Contains(err.Error(), "has ended") {
			t.Errorf("%q: got %v, want that the row has ended", conflict, err)
		}
		if !query[bool](f, head) {
			t.Errorf("%q: the head is not that of the last row", conflict)
		}
	}
	f.exec(insertRow, "begun", 0, "")
	begun = query[int64](f, `select max(seq) from operator_log`)
	other := f.role()
	f.exec(`alter role ` + other + ` superuser`)
	conn, err := parts.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), `set session authorization `+other); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), insertRow, "ended", begun, "failed")
	if err == nil || !strings.Contains(err.Error(), "did not begin") {
		t.Errorf("another role: got %v, want that it did not begin", err)
	}
}

// TestImmutable_Revoked: a revoked key stays revoked.
func TestImmutable_Revoked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	key, err := f.AddAPIKey(t.Context(), "acme", newKey(t), store.APIKeyTerms{Scopes: payment.AllScopes})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.RevokeAPIKey(t.Context(), "acme", key); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"null", "now() + '1 day'"} {
		_, err := f.db.Exec(t.Context(), `update api_keys set revoked_at = `+value+` where revoked_at is not null`)
		if err == nil || !strings.Contains(err.Error(), "stays revoked") {
			t.Errorf("%s: got %v, want that it stays revoked", value, err)
		}
	}
}

// TestImmutable_SearchPath: a function of another schema does not stand for one of PostgreSQL in
// the check of marks.
func TestImmutable_SearchPath(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.recover(inLog(f.createMany(1), 0), 2, false)
	role := f.role()
	f.exec(`create schema lab; grant create, usage on schema lab to ` + role + `;
		grant usage on schema public to ` + role + `; grant select, update on payments to ` + role)
	conn := f.as(role)
	if _, err := conn.Exec(t.Context(), `create function lab.has_function_privilege(text, text) returns boolean
		language sql as 'select true'`); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, conn, `begin; set local search_path = lab, pg_catalog, public; set local paylatch.resend = on;
		update payments set status = 'created', sent_at = null, kafka_offset = null`, "takes a mark back")
}
