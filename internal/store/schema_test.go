package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paylatch/paylatch/internal/store"
)

// The statements below begin from right rows: `acme` with a key and one payment each way, and
// partition 0. Each is run with one thing wrong.
const (
	tenantRow = `insert into tenants (name, salt) values ($1, decode(repeat('00', $2), 'hex'))`
	apiKeyRow = `insert into api_keys (tenant_id, hash, hint) select id + $1, decode(repeat('01', $2), 'hex'), ''
		from tenants where name = 'acme'`
	partyRow = `insert into parties (tenant_id, party_id, name) select id + $1, repeat('é', $2), repeat('名', $3)
		from tenants where name = 'acme'`
	accountRow = `insert into accounts (tenant_id, type, number) select id + $1, $2::text, repeat('9', $3)
		from tenants where name = 'acme'`
	settingsRow  = `insert into tenant_settings (tenant_id) select id + $1 from tenants where name = 'acme'`
	partitionRow = `insert into topic_partitions (partition, topic, topic_id, transactional_id, delivery, next_offset)
		values ($1, 'payments', gen_random_uuid(), $2, 'fenced', $3)`
)

// setPayment changes the one created payment.
func setPayment(assignments string) string {
	return `update payments set ` + assignments + ` where status = 'created'`
}

func setKey(assignments string) string { return `update api_keys set ` + assignments }

const markRow = `insert into test_installation default values`

func setPartition(assignments string) string {
	return `update topic_partitions set ` + assignments + ` where partition = 0`
}

// setLog changes the first row of the operator's log, whose triggers would refuse that.
func setLog(assignments string) string {
	return `set local session_replication_role = replica; update operator_log set ` + assignments + ` where seq = 1`
}

// row is a statement and the constraint that must refuse it; none for a right one.
type row struct {
	constraint string
	sql        string
	args       []any
}

// rightRows stand at the bounds: the refusals beside them are then due to nothing but the one thing
// that is wrong.
var rightRows = []row{
	{"", tenantRow, []any{"a", 32}},
	{"", tenantRow, []any{"0" + strings.Repeat("-", 62), 32}},
	{"", apiKeyRow, []any{0, 32}},
	{"", `update api_keys set revoked_at = created_at`, nil},
	{"", setKey(`expires_at = created_at + interval '1 microsecond', note = repeat('名', 200)`), nil},
	{"", setKey(`scopes = '{payments:read}'`), nil},
	{"", settingsRow, []any{0}},
	{"", markRow, nil},
	{"", partyRow, []any{0, 1, 1}},
	{"", partyRow, []any{0, 35, 140}},
	{"", accountRow, []any{0, "a", 1}},
	{"", accountRow, []any{0, "z" + strings.Repeat("_", 34), 34}},
	{"", setPayment(`amount = 1, currency = 'JPY', reference = null, trace_context = null, partition = 0`), nil},
	{"", setPayment(`amount = 999999999999999, reference = repeat('名', 35), trace_context = decode(repeat('00', 25),
		'hex')`), nil},
	{"", setPayment(`status = 'sent', sent_at = now(), kafka_offset = 0`), nil},
	{"", setPayment(`status = 'rejected', sent_at = now(), kafka_offset = 9223372036854775807`), nil},
	{"", partitionRow, []any{1, "another", 0}},
	{"", setPartition(`state = 'halted', reason = 'why'`), nil},
	{"", setLog(`os_user = repeat('é', 64), host = repeat('a', 255), version = repeat('a', 128),
		command = repeat('a', 64), action = repeat('a', 64)`), nil},
	{"", setLog(`arguments = to_json(repeat('a', 2046)), before = to_json(repeat('a', 2046)),
		after = to_json(repeat('a', 2046))`), nil},
	{"", setLog(`phase = 'begun'`), nil},
	{"", setLog(`seq = 1000000, phase = 'ended', begun = 999999, result = 'unknown'`), nil},
}

var wrongRows = []row{
	{"tenants_name_is_unique", tenantRow, []any{"acme", 32}},
	{"tenants_name_has_form", tenantRow, []any{"Acme", 32}},
	{"tenants_name_has_form", tenantRow, []any{"", 32}},
	{"tenants_name_has_form", tenantRow, []any{"-a", 32}},
	{"tenants_name_has_form", tenantRow, []any{"a\n", 32}},
	{"tenants_name_has_form", tenantRow, []any{strings.Repeat("a", 64), 32}},
	{"tenants_salt_is_256_bits", tenantRow, []any{"b", 31}},
	{"tenants_salt_is_256_bits", tenantRow, []any{"b", 33}},
	{"tenants_id_is_unique", `insert into tenants (id, name, salt) overriding system value select id, 'b', salt
		from tenants where name = 'acme'`, nil},
	{"api_keys_tenant_exists", apiKeyRow, []any{1000, 32}},
	{"api_keys_hash_is_256_bits", apiKeyRow, []any{0, 31}},
	{"api_keys_hash_is_256_bits", apiKeyRow, []any{0, 33}},
	{"api_keys_hash_is_unique", `insert into api_keys (tenant_id, hash, hint) select tenant_id, hash, hint
		from api_keys`, nil},
	{"api_keys_id_is_unique", `insert into api_keys (id, tenant_id, hash, hint) overriding system value
		select id, tenant_id, decode(repeat('02', 32), 'hex'), hint from api_keys`, nil},
	{"api_keys_expires_after_created", setKey(`expires_at = created_at`), nil},
	{"api_keys_scopes_are_known", setKey(`scopes = '{}'`), nil},
	{"api_keys_scopes_are_known", setKey(`scopes = '{payments:create,payments:delete}'`), nil},
	{"api_keys_note_in_bounds", setKey(`note = repeat('a', 201)`), nil},
	{"tenant_settings_tenant_exists", settingsRow, []any{1000}},
	{"tenant_settings_tenant_is_unique", `insert into tenant_settings (tenant_id) select id from tenants,
		(values (1), (2)) as twice where name = 'acme'`, nil},
	{"test_installation_is_one_row", `insert into test_installation (id) values (false)`, nil},
	{"test_installation_is_unique", `insert into test_installation select true from (values (1), (2)) as twice`, nil},
	{"api_keys_revoked_after_created", `update api_keys set revoked_at = created_at - interval '1 microsecond'`, nil},
	{"parties_tenant_exists", partyRow, []any{1000, 1, 1}},
	{"parties_party_id_in_bounds", partyRow, []any{0, 0, 1}},
	{"parties_party_id_in_bounds", partyRow, []any{0, 36, 1}},
	{"parties_name_in_bounds", partyRow, []any{0, 1, 0}},
	{"parties_name_in_bounds", partyRow, []any{0, 1, 141}},
	{"parties_content_is_unique", `insert into parties (tenant_id, party_id, name) select tenant_id, party_id, name
		from parties limit 1`, nil},
	{"parties_id_is_unique", `insert into parties (id, tenant_id, party_id, name) overriding system value
		select id, tenant_id, 'b', 'b' from parties limit 1`, nil},
	{"accounts_tenant_exists", accountRow, []any{1000, "a", 1}},
	{"accounts_type_has_form", accountRow, []any{0, "", 1}},
	{"accounts_type_has_form", accountRow, []any{0, "IBAN", 1}},
	{"accounts_type_has_form", accountRow, []any{0, "1a", 1}},
	{"accounts_type_has_form", accountRow, []any{0, "a\n", 1}},
	{"accounts_type_has_form", accountRow, []any{0, strings.Repeat("a", 36), 1}},
	{"accounts_number_in_bounds", accountRow, []any{0, "a", 0}},
	{"accounts_number_in_bounds", accountRow, []any{0, "a", 35}},
	{"accounts_content_is_unique", `insert into accounts (tenant_id, type, number) select tenant_id, type, number
		from accounts limit 1`, nil},
	{"accounts_id_is_unique", `insert into accounts (id, tenant_id, type, number) overriding system value
		select id, tenant_id, 'b', 'b' from accounts limit 1`, nil},
	{"payments_id_is_unique", `insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id,
		sender_id, receiver_id, partition)
		select id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id, partition
		from payments`, nil},
	{"payments_amount_in_bounds", setPayment(`amount = 0`), nil},
	{"payments_amount_in_bounds", setPayment(`amount = -1`), nil},
	{"payments_amount_in_bounds", setPayment(`amount = 1000000000000000`), nil},
	{"payments_currency_has_form", setPayment(`currency = 'usd'`), nil},
	{"payments_currency_has_form", setPayment(`currency = 'US'`), nil},
	{"payments_currency_has_form", setPayment(`currency = 'USDX'`), nil},
	{"payments_currency_has_form", setPayment(`currency = E'USD\n'`), nil},
	{"payments_reference_in_bounds", setPayment(`reference = ''`), nil},
	{"payments_reference_in_bounds", setPayment(`reference = repeat('a', 36)`), nil},
	{"payments_trace_context_has_form", setPayment(`trace_context = decode(repeat('00', 24), 'hex')`), nil},
	{"payments_trace_context_has_form", setPayment(`trace_context = decode(repeat('00', 26), 'hex')`), nil},
	{"payments_partition_not_negative", setPayment(`partition = -1`), nil},
	{"payments_offset_not_negative", setPayment(`status = 'sent', sent_at = now(), kafka_offset = -1`), nil},
	{"payments_sent_means_in_topic", setPayment(`status = 'sent'`), nil},
	{"payments_sent_means_in_topic", setPayment(`status = 'sent', sent_at = now()`), nil},
	{"payments_sent_means_in_topic", setPayment(`status = 'accepted', kafka_offset = 1`), nil},
	{"payments_sent_means_in_topic", setPayment(`sent_at = now()`), nil},
	{"payments_sent_means_in_topic", setPayment(`kafka_offset = 1`), nil},
	{"payments_sent_means_in_topic", setPayment(`sent_at = now(), kafka_offset = 1`), nil},
	{"topic_partitions_partition_is_unique", partitionRow, []any{0, "another", 0}},
	{"topic_partitions_transactional_id_is_unique", `insert into topic_partitions (partition, topic, topic_id,
		transactional_id, delivery, next_offset)
		select 1, topic, topic_id, transactional_id, delivery, next_offset from topic_partitions
		where partition = 0`, nil},
	{"topic_partitions_partition_not_negative", partitionRow, []any{-1, "another", 0}},
	{"topic_partitions_next_offset_not_negative", partitionRow, []any{1, "another", -1}},
	{"topic_partitions_generation_not_negative", setPartition(`generation = -1`), nil},
	{"topic_partitions_halted_has_reason", setPartition(`state = 'halted'`), nil},
	{"topic_partitions_halted_has_reason", setPartition(`reason = 'why'`), nil},
	{"operator_log_seq_is_unique", setLog(`seq = 2`), nil},
	{"operator_log_seq_is_positive", setLog(`seq = 0, begun = 0`), nil},
	{"operator_log_os_user_in_bounds", setLog(`os_user = ''`), nil},
	{"operator_log_os_user_in_bounds", setLog(`os_user = repeat('é', 65)`), nil},
	{"operator_log_host_in_bounds", setLog(`host = ''`), nil},
	{"operator_log_host_in_bounds", setLog(`host = repeat('a', 256)`), nil},
	{"operator_log_version_in_bounds", setLog(`version = ''`), nil},
	{"operator_log_version_in_bounds", setLog(`version = repeat('a', 129)`), nil},
	{"operator_log_command_in_bounds", setLog(`command = ''`), nil},
	{"operator_log_command_in_bounds", setLog(`command = repeat('a', 65)`), nil},
	{"operator_log_action_in_bounds", setLog(`action = ''`), nil},
	{"operator_log_action_in_bounds", setLog(`action = repeat('a', 65)`), nil},
	{"operator_log_arguments_in_bounds", setLog(`arguments = to_json(repeat('a', 2047))`), nil},
	{"operator_log_before_in_bounds", setLog(`before = to_json(repeat('a', 2047))`), nil},
	{"operator_log_after_in_bounds", setLog(`after = to_json(repeat('a', 2047))`), nil},
	{"operator_log_phase_is_known", setLog(`phase = 'doing'`), nil},
	{"operator_log_ended_was_begun", setLog(`seq = 1000000, phase = 'ended', result = 'failed'`), nil},
	{"operator_log_ended_was_begun", setLog(`seq = 9, phase = 'ended', begun = 9, result = 'failed'`), nil},
	{"operator_log_ended_was_begun", setLog(`seq = 1000000, begun = 999999`), nil},
	{"operator_log_ended_has_result", setLog(`seq = 1000000, phase = 'ended', begun = 999999`), nil},
	{"operator_log_ended_has_result", setLog(`result = 'failed'`), nil},
	{"operator_log_hashes_are_256_bits", setLog(`hash = decode(repeat('00', 31), 'hex')`), nil},
	{"operator_log_hashes_are_256_bits", setLog(`previous = decode(repeat('00', 33), 'hex')`), nil},
	{"operator_log_head_is_one_row", `set local session_replication_role = replica;
		insert into operator_log_head (seq, hash) select seq, hash from operator_log_head`, nil},
	{"operator_log_head_has_no_other_row", `update operator_log_head set only_row = false, seq = seq + 1`, nil},
	{"operator_log_head_hash_is_256_bits", `update operator_log_head set seq = seq + 1, hash = '\x00'`, nil},
}

// constraints lists all that the schema refuses by name; NOT NULL has no rule of ours in its name.
const constraints = `select array_agg(conname::text order by conname) from pg_constraint
	where connamespace = 'public'::regnamespace and contype in ('c', 'u', 'p', 'f')
	and conrelid <> 'schema_version'::regclass`

// try runs a statement and takes it back. A statement that touches no row has shown nothing.
func (f *fixture) try(sql string, args ...any) error {
	f.t.Helper()
	errTakeBack := errors.New("taken back")
	err := pgx.BeginFunc(f.t.Context(), f.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(f.t.Context(), sql, args...)
		if err == nil && tag.RowsAffected() == 0 {
			f.t.Errorf("%s: touches no row", sql)
		}
		return errors.Join(err, errTakeBack)
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg
	}
	return nil
}

// TestSchema_Constraints: the schema by itself enforces every rule that has a name, whichever
// program writes. Valid rows at the bounds are accepted. Each invalid row is refused by the
// constraint that says why. For each constraint there is a row that it refuses.
func TestSchema_Constraints(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.create(f.payment("order-1"))
	if _, err := f.AddAPIKey(t.Context(), "acme", newKey(t), store.Unrestricted); err != nil {
		t.Fatal(err)
	}
	// It would refuse wrong content before the constraint does.
	f.exec(`alter table payments disable trigger payments_are_immutable`)
	for _, r := range rightRows {
		if err := f.try(r.sql, r.args...); err != nil {
			t.Errorf("a right row is refused: %s %v: %v", r.sql, r.args, err)
		}
	}
	refused := map[string]bool{}
	for _, r := range wrongRows {
		refused[r.constraint] = true
		if got := constraintOf(f.try(r.sql, r.args...)); got != r.constraint {
			t.Errorf("%s %v: refused by %q, want %q", r.sql, r.args, got, r.constraint)
		}
	}
	for _, name := range query[[]string](f, constraints) {
		if !refused[name] {
			t.Errorf("no wrong row here shows what %s refuses", name)
		}
	}
}

// TestSchema_Immutable: parties, accounts and tenants cannot be changed or deleted. Payments refer
// to their rows without a foreign key, and replicas cache their ids. Nor can the operator's log.
func TestSchema_Immutable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	p := f.create(f.payment("order-1"))
	for table, column := range map[string]string{
		"parties": "name", "accounts": "number", "tenants": "name", "operator_log": "role",
	} {
		for _, sql := range []string{
			`update ` + table + ` set ` + column + ` = ` + column, `delete from ` + table,
			`truncate ` + table + ` cascade`,
		} {
			err := f.try(sql)
			if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "23001" ||
				!strings.HasPrefix(pg.Message, table) {
				t.Errorf("%s: %v, want restrict_violation (23001) that names the table", sql, err)
			}
		}
	}
	wantSame(t, f.find(p.ID), p)
}
