package store_test

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// groups are the database roles of one test. Roles belong to the whole server.
type groups struct {
	f      *fixture
	prefix string
	sql    string
}

// newGroups executes the SQL of the roles in the test's database, with role names of its own.
func newGroups(f *fixture) *groups {
	f.t.Helper()
	prefix := "g" + strings.ReplaceAll(uuid.NewString(), "-", "")
	sql, err := store.RolesSQL("public", prefix)
	if err != nil {
		f.t.Fatal(err)
	}
	g := &groups{f, prefix, sql}
	f.exec(sql)
	for _, name := range []string{"common", "api", "sender", "operator", "retention"} {
		f.dropAtEnd(g.prefix + "_" + name)
	}
	return g
}

// login creates a role that logs in, as a member of a group. It returns its name and its URL.
func (g *groups) login(group string) (name, databaseURL string) {
	g.f.t.Helper()
	name = "l" + strings.ReplaceAll(uuid.NewString(), "-", "")
	g.f.exec(`create role ` + name + ` login password 'secret' in role ` + g.prefix + `_` + group)
	g.f.dropAtEnd(name)
	u, err := url.Parse(g.f.url)
	if err != nil {
		g.f.t.Fatal(err)
	}
	u.User = url.UserPassword(name, "secret")
	return name, u.String()
}

// selectGranted lists all that a role may do in the schema, by grants to it and to its groups. The
// owner and PUBLIC are not included.
const selectGranted = `with recursive mine as (select $1::regrole::oid as role
		union select m.roleid from pg_auth_members m join mine on m.member = mine.role),
	granted as (
		select (aclexplode(relacl)).*, relname::text as object, '' as "column" from pg_class
			where relnamespace = 'public'::regnamespace
		union all select (aclexplode(attacl)).*, attrelid::regclass::text, attname from pg_attribute
		union all select (aclexplode(proacl)).*, oid::regprocedure::text, '' from pg_proc
			where pronamespace = 'public'::regnamespace
		union all select (aclexplode(nspacl)).*, 'schema ' || nspname, '' from pg_namespace where nspname = 'public')
	select array_agg(distinct privilege_type || case "column" when '' then '' else ' (' || "column" || ')' end ||
		' on ' || object) from granted where grantee in (select role from mine)`

// members are the groups and the roles of this program that they are for.
var members = map[string]store.Role{
	"api": store.RoleAPI, "sender": store.RoleSender, "operator": store.RoleOperator,
}

// TestRoles_Exact: the printed roles have what Store.Check wants, and no more. Retention may read
// and delete payments.
func TestRoles_Exact(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	g := newGroups(f)
	f.exec(`grant delete, update on payments to ` + g.prefix + `_sender`)
	f.exec(g.sql) // It can be executed again, and takes back what was granted otherwise.
	for group, role := range members {
		got := query[[]string](f, selectGranted, g.prefix+"_"+group)
		want := append(store.Needed(role), "USAGE on schema public")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%s: got\n%s\nwant\n%s", group, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		_, databaseURL := g.login(group)
		if err := openStore(t, databaseURL).Check(t.Context(), role); err != nil {
			t.Errorf("%s: got %v, want no error", group, err)
		}
	}
	got := query[[]string](f, selectGranted, g.prefix+"_retention")
	want := []string{"DELETE on payments", "SELECT on payments", "USAGE on schema public"}
	if !slices.Equal(got, want) {
		t.Errorf("retention: got %q, want %q", got, want)
	}
}

// privilegeForm is the form of a privilege as Store.Check names it.
var privilegeForm = regexp.MustCompile(`^([A-Z]+)( \(\w+\))? on (.+)$`)

// revoke takes a privilege from all groups, and from PUBLIC.
func (g *groups) revoke(privilege string) {
	g.f.t.Helper()
	m := privilegeForm.FindStringSubmatch(privilege)
	if m == nil {
		g.f.t.Fatalf("got privilege %q, want it in the form of %s", privilege, privilegeForm)
	}
	object := m[3]
	switch {
	case m[1] == "EXECUTE":
		object = "function " + object
	case strings.HasSuffix(object, "_seq"):
		object = "sequence " + object
	}
	from := "public"
	for _, group := range []string{"common", "api", "sender", "operator"} {
		from += ", " + g.prefix + "_" + group
	}
	g.f.exec(fmt.Sprintf(`revoke %s%s on %s from %s`, m[1], m[2], object, from))
}

// checkOnce checks a role by a store of its own. It closes the store: dozens of pools at once would
// use all connections of the server.
func checkOnce(t *testing.T, databaseURL string, role store.Role) error {
	t.Helper()
	s, err := store.Open(t.Context(), databaseURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.Check(t.Context(), role)
}

// TestRoles_EachRemoved takes each privilege of each role away in turn. The error names the
// privilege, what it is for, and the role.
func TestRoles_EachRemoved(t *testing.T) {
	t.Parallel()
	for group, role := range members {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1)
			g := newGroups(f)
			name, databaseURL := g.login(group)
			needed := append(store.Needed(role), "USAGE on schema public")
			if len(needed) < 20 {
				t.Fatalf("got privileges %q, want at least 20", needed)
			}
			for _, privilege := range needed {
				g.revoke(privilege)
				err := checkOnce(t, databaseURL, role)
				want := "the database role " + name + " lacks a privilege: " + privilege + ", needed "
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
				f.exec(g.sql)
			}
			if err := checkOnce(t, databaseURL, role); err != nil {
				t.Errorf("got %v with all privileges, want no error", err)
			}
		})
	}
}

// TestRoles_CannotTamper: neither the API's role nor the sender's changes what a payment says, and
// the API's does not write marks.
func TestRoles_CannotTamper(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.createMany(1)
	g := newGroups(f)
	for group, statements := range map[string][]string{
		"api": {
			`update payments set status = 'sent', sent_at = now(), kafka_offset = 0`, `delete from payments`,
			`insert into payments (seq) select 0`, `insert into payments (status) select 'sent'`,
			`update topic_partitions set next_offset = 7`, `insert into tenants (name) select 'x'`,
		},
		"sender": {
			`update payments set amount = 1`, `update payments set seq = 0`, `delete from payments`,
			`truncate payments`,
			`update topic_partitions set topic_id = gen_random_uuid()`, `insert into api_keys (tenant_id) select 1`,
			`select allow_resend()`,
		},
		"operator": {`update payments set amount = 1`, `delete from payments`, `update api_keys set hash = ''`},
	} {
		_, databaseURL := g.login(group)
		db := openDB(t, databaseURL)
		for _, sql := range statements {
			if _, err := db.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s: %s: got %v, want that permission is denied", group, sql, err)
			}
		}
	}
}

// TestRoles_Sender claims, marks, halts and recovers as the sender's role, and sends again as the
// operator's. FOR UPDATE and the lock of a claim need no more than the columns.
func TestRoles_Sender(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	g := newGroups(f)
	payments := f.createMany(3)
	as := func(group string) *fixture {
		_, databaseURL := g.login(group)
		return &fixture{t: t, url: databaseURL, db: f.db, Store: openStore(t, databaseURL), tenant: f.tenant}
	}
	sender := as("sender")
	session := sender.own(0)
	claim := sender.claim(session, 2)
	if err := claim.MarkSent(t.Context(), 0, 2, 2); err != nil {
		t.Fatal(err)
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	claim = sender.claim(session, 0)
	if err := claim.CountTakeover(t.Context()); err != nil {
		t.Error(err)
	}
	if err := claim.Halt(t.Context(), "a test"); err != nil {
		t.Error(err)
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	session.Close()
	f.tamper(`delete from payments where kafka_offset = 1`)
	if r := sender.recover(inLog(payments[1:2], 1), 2, false); r.Restored != 1 {
		t.Errorf("got %d payments put back, want 1", r.Restored)
	}
	operating, err := as("operator").Operate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer operating.Close()
	claim, err = operating.ClaimWaiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := claim.UnmarkFrom(t.Context(), 0); n != 2 || err != nil {
		t.Errorf("got %d marks taken back, %v, want 2", n, err)
	}
	if err := claim.ResumeAt(t.Context(), claim.Partition.TopicID, 0); err != nil {
		t.Error(err)
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRoles_Names: the SQL is for the schema and the names that are given. Names that would have to
// be quoted are refused.
func TestRoles_Names(t *testing.T) {
	t.Parallel()
	for _, names := range [][2]string{{"Public", "paylatch"}, {"public", ""}, {"public", "x; drop"}, {"1", "p"}} {
		if sql, err := store.RolesSQL(names[0], names[1]); err == nil {
			t.Errorf("%q: got %s, want an error", names, sql)
		}
	}
	sql, err := store.RolesSQL("app", "bank")
	if err != nil || strings.Contains(sql, "schema public") || strings.Contains(sql, "= public") ||
		strings.Contains(sql, "to paylatch") {
		t.Errorf("got %s, %v, want the names of app and bank", sql, err)
	}
}

// TestRoles_Owner migrates as a role that may create in the schema, and as one that may not.
func TestRoles_Owner(t *testing.T) {
	t.Parallel()
	empty := parts.EmptyPostgres(t)
	f := &fixture{t: t, url: empty, db: openDB(t, empty)}
	name := f.role()
	f.exec(`alter role ` + name + ` login password 'secret'; grant usage on schema public to ` + name)
	u, err := url.Parse(empty)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "secret")
	_, err = store.MigrateUp(t.Context(), u.String(), migrations.FS)
	want := "the database role " + name + " lacks a privilege: it must own schema public, or have CREATE on it"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	f.exec(`grant create on schema public to ` + name)
	if _, err := store.MigrateUp(t.Context(), u.String(), migrations.FS); err != nil {
		t.Errorf("got %v with CREATE, want no error", err)
	}
	if err := openStore(t, u.String()).Check(t.Context(), store.RoleAPI, store.RoleOperator); err != nil {
		t.Errorf("got %v as the owner, want no error", err)
	}
}
