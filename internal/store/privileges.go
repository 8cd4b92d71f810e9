package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Role is a part of the service, by its use of the database.
type Role int

// The roles of a process.
const (
	// RoleAPI takes payments and reports them.
	RoleAPI Role = iota
	// RoleSender sends payments. It recovers rows of sent payments that the database has lost.
	RoleSender
)

// privilege is what a role may do with objects of the schema, which are separated by commas.
type privilege struct{ operation, objects, purpose string }

// neededByAll is what every connection needs; see initConn.
var neededByAll = []privilege{
	{"SELECT", "schema_version", "to check the schema's version"},
	{"SELECT", "tenants, api_keys, tenant_settings, test_installation", "to check API keys"},
	{"SELECT", "topic_partitions, payments, parties, accounts", "to read"},
	{"SELECT", sequences, "to see whether a sequence is behind its table"},
	{"UPDATE", sequences, "to advance a sequence that logical replication has left behind its table"},
}

const sequences = "payments_seq, parties_id_seq, accounts_id_seq, tenants_id_seq, api_keys_id_seq"

// neededBy is what each role needs in addition.
var neededBy = map[Role][]privilege{
	RoleAPI: {
		{"INSERT", "payments, parties, accounts", "to store payments"},
		{"EXECUTE", "create_gate_is_open(smallint)", "to store payments"},
		{"UPDATE", "api_keys", "to record when a key was last used"},
	},
	RoleSender: {
		{"UPDATE", "topic_partitions, payments", "to lock and to mark what is sent"},
		{"INSERT", "payments, parties, accounts", "to put back sent payments that a restored database has lost"},
		{"EXECUTE", "presence_has_ended(integer)", "to notice the end of another sender at once"},
	},
}

// MissingPrivilegesError means that the database role lacks privileges.
type MissingPrivilegesError struct{ Missing []string }

func (e *MissingPrivilegesError) Error() string {
	return "the database role lacks a privilege: " + strings.Join(e.Missing, "; ")
}

// selectMissingPrivileges accepts a privilege on one column. PostgreSQL needs no more to lock a
// row, and the columns that are read and written are not listed here.
const selectMissingPrivileges = `select operation || ' on ' || object || ', needed ' || purpose
	from unnest($1::text[], $2::text[], $3::text[]) with ordinality as needed (operation, object, purpose, n)
	where not case operation when 'EXECUTE' then has_function_privilege(object, operation)
		else has_any_column_privilege(object, operation) end
	order by n`

// TryPrivileges returns a *MissingPrivilegesError unless the database role may do all that a
// process with these roles ever does, also in a recovery.
func (s *Store) TryPrivileges(ctx context.Context, roles ...Role) error {
	return tryPrivileges(ctx, s.pool, roles...)
}

func tryPrivileges(ctx context.Context, q querier, roles ...Role) error {
	needed := neededByAll
	for _, r := range roles {
		needed = append(needed[:len(needed):len(needed)], neededBy[r]...)
	}
	var operations, objects, purposes []string
	for _, p := range needed {
		for object := range strings.SplitSeq(p.objects, ", ") {
			operations, objects, purposes = append(operations, p.operation), append(objects, object),
				append(purposes, p.purpose)
		}
	}
	rows, err := q.Query(ctx, selectMissingPrivileges, operations, objects, purposes)
	if err != nil {
		return translate(err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("privileges: %w", translate(err))
	}
	if len(missing) > 0 {
		return &MissingPrivilegesError{missing}
	}
	return nil
}
