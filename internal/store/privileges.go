package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paylatch/paylatch/internal/payment"
)

// Role is a part of the service, by its use of the database.
type Role int

// The roles of a process. roles.sql has a database role for each.
const (
	// RoleAPI takes payments and reports them.
	RoleAPI Role = iota
	// RoleSender sends payments. It recovers rows of sent payments that the database has lost.
	RoleSender
	// RoleOperator manages tenants and partitions. It may do what a sender may.
	RoleOperator
)

// privilege is what a role may do with objects of the schema. The names of objects and of columns
// are separated by commas. Without columns the privilege is one on the whole object.
type privilege struct{ operation, objects, columns, purpose string }

// neededByAll is what every connection needs; see initConn.
var neededByAll = []privilege{
	{"SELECT", "schema_version", "", "to check the schema's version"},
	{"SELECT", "tenants, api_keys, tenant_settings, test_installation", "", "to check API keys"},
	{"SELECT", "topic_partitions, payments, parties, accounts", "", "to read"},
	{"SELECT", sequences, "", "to see whether a sequence is behind its table"},
	{"UPDATE", sequences, "", "to advance a sequence that logical replication has left behind its table"},
}

const sequences = "payments_seq, parties_id_seq, accounts_id_seq, tenants_id_seq, api_keys_id_seq"

var neededBySender = []privilege{
	{"UPDATE", "payments", "status, sent_at, kafka_offset", "to mark what is sent"},
	{
		"UPDATE", "topic_partitions", "generation, next_offset, state, reason, changed_at",
		"to record how far a partition is sent, and to halt it",
	},
	{"INSERT", "payments, parties, accounts", "", "to put back sent payments that a restored database has lost"},
	{"EXECUTE", "presence_has_ended(integer)", "", "to notice the end of another sender at once"},
}

// neededBy is what each role needs in addition.
var neededBy = map[Role][]privilege{
	RoleAPI: {
		{
			"INSERT", "payments", "id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, " +
				"receiver_id, reference, trace_context, partition", "to store payments",
		},
		{"INSERT", "parties, accounts", "", "to store payments"},
		{"EXECUTE", "create_gate_is_open(smallint)", "", "to store payments"},
		{"UPDATE", "api_keys", "last_used_at", "to record when a key was last used"},
	},
	RoleSender: neededBySender,
	RoleOperator: append(neededBySender[:len(neededBySender):len(neededBySender)],
		privilege{"INSERT", "tenants, api_keys, topic_partitions", "", "to create tenants, keys and partitions"},
		privilege{"UPDATE", "api_keys", "revoked_at", "to revoke keys"},
		privilege{"INSERT", "tenant_settings", "", "to disable tenants, and to limit them"},
		privilege{"UPDATE", "tenant_settings", "", "to disable tenants, and to limit them"},
		privilege{"UPDATE", "topic_partitions", "topic_id, delivery", "to resume partitions, and to change deliveries"},
		privilege{"EXECUTE", "allow_resend()", "", "to send payments again"},
		privilege{"SELECT", "operator_log, operator_log_head", "", "to read and to check the operator's log"},
		privilege{"INSERT", "operator_log", "", "to record what a command changes"},
	),
}

// MissingPrivilegesError means that the database role lacks privileges. For requests it is a
// payment.ErrUnavailable, since an operator can grant them.
type MissingPrivilegesError struct {
	// Role is the database role.
	Role    string
	Missing []string
}

func (e *MissingPrivilegesError) Error() string {
	return fmt.Sprintf("the database role %s lacks a privilege: %s (see paylatch roles)", e.Role,
		strings.Join(e.Missing, "; "))
}

// Is makes the error a payment.ErrUnavailable.
func (e *MissingPrivilegesError) Is(target error) bool { return target == payment.ErrUnavailable }

const (
	// selectMayUse returns whether the schema of the installation can be used. Without that, no
	// object in it is found.
	selectMayUse = `select current_user::text, name, coalesce((select has_schema_privilege(oid, 'USAGE')
			from pg_namespace where nspname = name), true)
		from split_part(current_setting('search_path'), ',', 1) as name`
	// selectMissingPrivileges returns what is missing. An object that does not exist is not
	// missing.
	selectMissingPrivileges = `select operation || case "column" when '' then '' else ' (' || "column" || ')' end ||
			' on ' || object || ', needed ' || purpose
		from unnest($1::text[], $2::text[], $3::text[], $4::text[]) with ordinality as
			needed (operation, object, "column", purpose, n)
		where not case when operation = 'EXECUTE' then has_function_privilege(to_regprocedure(object), operation)
			when "column" <> '' then has_column_privilege(to_regclass(object), "column", operation)
			else has_table_privilege(to_regclass(object), operation) end
		order by n`
)

// Check returns nil if the database responds, this program works on it, and the database role may
// do all that a process with these roles ever does, also in a recovery. It returns a
// *DatabaseRefusedError or a *MissingPrivilegesError if an operator must act, and another
// payment.ErrUnavailable if the database does not respond.
func (s *Store) Check(ctx context.Context, roles ...Role) error {
	if err := s.Ping(ctx); err != nil {
		return s.Explain(ctx, err, roles...)
	}
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return tryPrivileges(ctx, conn.Conn(), roles...)
}

// Explain names the missing privileges of the roles if err is due to one. It returns other errors
// as they are.
func (s *Store) Explain(ctx context.Context, err error, roles ...Role) error {
	// Without USAGE on the schema its tables are not found.
	if !isDenied(err) && !errors.Is(err, errNotMigrated) {
		return err
	}
	// This connection is not checked as others are, since that needs some of the privileges.
	conn, connectErr := pgx.ConnectConfig(ctx, s.connConfig(nil))
	if connectErr != nil {
		return err
	}
	defer closeConn(conn)
	missing := tryPrivileges(ctx, conn, roles...)
	if _, ok := errors.AsType[*MissingPrivilegesError](missing); ok {
		return fmt.Errorf("%w: %w", missing, err)
	}
	return err
}

// isDenied reports whether PostgreSQL refused a statement because the role lacks a privilege.
func isDenied(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "42501"
}

// tryPrivileges returns a *MissingPrivilegesError unless the database role may do all that a
// process with these roles ever does.
func tryPrivileges(ctx context.Context, conn *pgx.Conn, roles ...Role) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	missing := &MissingPrivilegesError{}
	var schema string
	var mayUse bool
	if err := conn.QueryRow(ctx, selectMayUse).Scan(&missing.Role, &schema, &mayUse); err != nil {
		return translate(err)
	}
	if !mayUse {
		missing.Missing = []string{"USAGE on schema " + schema + ", needed for all that is in it"}
		return missing
	}
	rows, err := conn.Query(ctx, selectMissingPrivileges, parametersOf(roles)...)
	if err != nil {
		return translate(err)
	}
	missing.Missing, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("privileges: %w", translate(err))
	}
	if len(missing.Missing) == 0 {
		return nil
	}
	return missing
}

// parametersOf returns the privileges of the roles as parameters of selectMissingPrivileges: one
// row for each object and column.
func parametersOf(roles []Role) []any {
	needed := neededByAll
	for _, r := range roles {
		needed = append(needed[:len(needed):len(needed)], neededBy[r]...)
	}
	var operations, objects, columns, purposes []string
	for _, p := range needed {
		for object := range strings.SplitSeq(p.objects, ", ") {
			for column := range strings.SplitSeq(p.columns, ", ") {
				operations, objects = append(operations, p.operation), append(objects, object)
				columns, purposes = append(columns, column), append(purposes, p.purpose)
			}
		}
	}
	return []any{operations, objects, columns, purposes}
}
