package parts

import (
	"context"
	"net/url"
	"sync"
	"testing"

	"github.com/paylatch/paylatch/internal/store"
)

// Role is a group of database roles that `paylatch roles` prints, by its name without the prefix.
type Role string

// The groups.
const (
	RoleAPI      Role = "api"
	RoleSender   Role = "sender"
	RoleServe    Role = "serve" // RoleAPI and RoleSender.
	RoleOperator Role = "operator"
)

const (
	rolePrefix = "paylatch"
	// createLogins creates a role that logs in for each group, and one for both.
	createLogins = `do $$ begin
		if not exists (select from pg_roles where rolname = 'login_serve') then
			create role login_api login password 'secret' in role paylatch_api;
			create role login_sender login password 'secret' in role paylatch_sender;
			create role login_serve login password 'secret' in role paylatch_api, paylatch_sender;
			create role login_operator login password 'secret' in role paylatch_operator;
		end if;
	end $$`
)

var (
	rolesMu sync.Mutex // Roles belong to the whole server.
	// withRoles holds the names of the databases that have the roles.
	withRoles sync.Map
)

// GrantRoles executes what `paylatch roles` prints in a migrated database. As then returns URLs
// with these roles for it.
func GrantRoles(t testing.TB, databaseURL string) {
	t.Helper()
	rolesMu.Lock()
	defer rolesMu.Unlock()
	sql, err := store.RolesSQL("public", rolePrefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{sql, createLogins} {
		conn, err := Connect(t.Context(), databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), sql)
		_ = conn.Close(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
	}
	withRoles.Store(databaseOf(databaseURL), true)
}

// As returns the URL for a role. If the database does not have the roles, it returns the URL as it
// is.
func As(databaseURL string, role Role) string {
	if _, ok := withRoles.Load(databaseOf(databaseURL)); !ok {
		return databaseURL
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		return databaseURL // It is the subject of a test.
	}
	u.User = url.UserPassword("login_"+string(role), "secret")
	return u.String()
}

// databaseOf returns the name of the database, which is that of one test, whatever leads to it.
func databaseOf(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return ""
	}
	return u.Path
}
