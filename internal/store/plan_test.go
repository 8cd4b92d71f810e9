package store_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// plan is a node of the output of EXPLAIN.
type plan struct {
	Type     string `json:"Node Type"`
	Index    string `json:"Index Name"`
	Relation string `json:"Relation Name"`
	Plans    []plan `json:"Plans"`
}

// flat lists the nodes from p down, one line. A bitmap scan is named as an index scan: for a few
// keys it is as good.
func (p plan) flat() string {
	if p.Type == "Bitmap Heap Scan" && len(p.Plans) == 1 {
		p = plan{Type: "Index Scan", Index: p.Plans[0].Index, Relation: p.Relation}
	}
	s := p.Type
	for _, label := range []string{p.Index, p.Relation} {
		if label != "" {
			s += " " + label
		}
	}
	for _, child := range p.Plans {
		s += " ← " + child.flat()
	}
	return s
}

// planned is a statement and the one plan that it may have.
type planned struct{ name, sql, args, want string }

const (
	byID   = "Index Scan payments_id_is_unique payments"
	unsent = "Index Scan payments_unsent payments"
	exists = "Index Only Scan payments_unsent payments"
)

// ownerPlans are the statements of owners and operators, on their own sessions.
var ownerPlans = []planned{
	{"claim of the partition", store.ClaimRowSQL, `3, '(0,1)'`, "LockRows ← Tid Scan topic_partitions"},
	{"claim, fenced", store.ClaimPaymentsSQL[store.DeliveryFenced], `3, 500, 0`, "Limit ← LockRows ← " + unsent},
	{"claim, locked", store.ClaimPaymentsSQL[store.DeliveryLocked], `3, 500, 0`, "Limit ← LockRows ← " + unsent},
	{"look", store.HasUnsentSQL, `3, 0, '(0,1)', 0`, "Result ← " + exists + " ← Tid Scan topic_partitions"},
	{
		"mark", store.MarkRowsSQL, `'{"(0,1)"}', array[gen_random_uuid()], '{7}'`,
		"ModifyTable payments ← Tid Scan payments",
	},
	{
		"next offset", store.MoveNextOffsetSQL, `3, 7, '(0,1)'`,
		"ModifyTable topic_partitions ← Tid Scan topic_partitions",
	},
	{"first unsent", store.SelectFirstUnsentSQL, `3, 0`, "Limit ← " + exists},
	{"mark what is found", store.MarkFoundSQL, `array[gen_random_uuid()], '{7}'`, "ModifyTable payments ← " + byID},
	{"find what is found", store.FindSQL, `array[gen_random_uuid()]`, byID},
	{"tenants of what is found", store.SelectTenantIDsSQL, `'{acme}'`, "Index Scan tenants_name_is_unique tenants"},
	{
		"restore", store.RestorePaymentsSQL,
		`array[gen_random_uuid()], '{1}', '{1}', '{USD}', '{1}', '{1}', '{1}', '{1}', '{null}', '{null}', '{0}', '{1}',
			'{now}', '{now}', '{1}'`,
		"ModifyTable payments ← Function Scan",
	},
	// The whole table, by intent.
	{"resend", store.UnmarkFromSQL, `3, 7`, "ModifyTable payments ← Seq Scan payments"},
}

// pooledPlans are the statements of the pool.
var pooledPlans = []planned{
	{"find", store.FindSQL, `array[gen_random_uuid(), gen_random_uuid()]`, byID},
	{
		"create", store.InsertPaymentsSQL,
		`array[gen_random_uuid()], '{1}', '{1}', '{USD}', '{1}', '{1}', '{1}', '{1}', '{null}', '{null}', '{0}', 12`,
		"ModifyTable payments ← Result ← Result ← Function Scan",
	},
	{
		"parties", store.SelectPartiesSQL, `'{1}', '{567}', '{Y}'`,
		"Nested Loop ← Function Scan ← Index Scan parties_content_is_unique parties",
	},
	{
		"accounts", store.SelectAccountsSQL, `'{1}', '{checking}', '{7}'`,
		"Nested Loop ← Function Scan ← Index Scan accounts_content_is_unique accounts",
	},
	{
		"new parties", store.InsertPartiesSQL, `'{1}', '{567}', '{Y}'`,
		"ModifyTable parties ← Function Scan ← Index Only Scan parties_content_is_unique parties",
	},
	{
		"new accounts", store.InsertAccountsSQL, `'{1}', '{checking}', '{7}'`,
		"ModifyTable accounts ← Function Scan ← Index Only Scan accounts_content_is_unique accounts",
	},
	{
		"keys", store.SelectLiveKeysSQL, `array[decode('00', 'hex')]`,
		"Nested Loop ← Index Only Scan test_installation_is_unique test_installation ← Nested Loop ← " +
			"Index Scan api_keys_hash_is_unique api_keys ← Index Scan tenants_id_is_unique tenants ← " +
			"Index Scan tenant_settings_tenant_is_unique tenant_settings",
	},
	{"parties by id", store.SelectPartiesByIDSQL, `'{1,2}'`, "Index Scan parties_id_is_unique parties"},
	{"accounts by id", store.SelectAccountsByIDSQL, `'{1,2}'`, "Index Scan accounts_id_is_unique accounts"},
	{
		"backlog", store.SelectBacklogSQL, `10000`,
		"Nested Loop ← Index Scan topic_partitions_partition_is_unique topic_partitions ← Limit ← " + unsent +
			" ← Aggregate ← Limit ← " + exists,
	},
}

// auditPlans are statements of `paylatch verify`, which has no settings of ours.
var auditPlans = []planned{
	{"places", store.SelectPlacesSQL, `array[gen_random_uuid(), gen_random_uuid()]`, byID},
}

// regimes are what PostgreSQL may know of the tables. In each but the first, payments wait.
var regimes = []struct{ name, sql string }{
	{"Empty", `delete from payments`},
	{"NeverAnalyzed", fill(20_000)},
	{"Current", `analyze`},
	// A day on which all is well, and one on which a payment in a hundred waits. Then an outage
	// begins.
	{"AllSent", `update payments set status = 'sent', sent_at = now(), kafka_offset = 0; analyze`},
	{"AllSent, outage", fill(20_000)},
	{"OneInAHundred", `update payments set status = 'sent', sent_at = now(), kafka_offset = 0 where amount % 100 > 0
		and status = 'created'; analyze`},
	{"OneInAHundred, outage", fill(200_000)},
}

// fill writes n payments, past the store, for 12 partitions, and a tenth as many parties and
// accounts.
func fill(n int) string {
	return fmt.Sprintf(`insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id,
		receiver_id, partition)
			select gen_random_uuid(), 1, n, 'USD', 1, 1, 1, 1, n %% 12 from generate_series(1, %d) as n;
		insert into parties (tenant_id, party_id, name) select 1, left(gen_random_uuid()::text, 35), 'Y'
		from generate_series(1, %d);
		insert into accounts (tenant_id, type, number) select 1, 'checking', left(gen_random_uuid()::text, 34)
		from generate_series(1, %[2]d)`, n, n/10)
}

// TestPlans: a statement has one plan, whatever the statistics say and however many payments wait.
// A plan is kept as long as its connection, so one that was made on an empty table or on a quiet
// day serves an outage as well.
func TestPlans(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	for _, table := range []string{"payments", "parties", "accounts"} {
		// The test says when there are statistics.
		f.exec(`alter table ` + table + ` set (autovacuum_enabled = off)`)
	}
	owner := f.own(0).Conn()
	audit, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = audit.Close(t.Context()) }()
	for _, regime := range regimes {
		f.tamper(regime.sql)
		wantPlans(t, regime.name, owner, ownerPlans)
		wantPlans(t, regime.name, audit, auditPlans)
		err := f.OnConn(t.Context(), func(conn *pgx.Conn) error {
			wantPlans(t, regime.name, conn, pooledPlans)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantPlans wants each statement to have its plan, for given values and for all values.
func wantPlans(t *testing.T, regime string, conn *pgx.Conn, statements []planned) {
	t.Helper()
	for _, s := range statements {
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			got, err := explain(t, conn, mode, s)
			if err != nil || got != s.want {
				t.Errorf("%s, %s, %s: %v\n got %s\nwant %s", regime, s.name, mode, err, got, s.want)
			}
		}
	}
}

// explain returns the plan that a statement has in a mode of plan_cache_mode.
func explain(t *testing.T, conn *pgx.Conn, mode string, s planned) (string, error) {
	t.Helper()
	simple := pgx.QueryExecModeSimpleProtocol
	for _, sql := range []string{`set plan_cache_mode = ` + mode, `prepare planned as ` + s.sql} {
		if _, err := conn.Exec(t.Context(), sql, simple); err != nil {
			return "", err
		}
	}
	var raw string
	call := `planned`
	if s.args != "" {
		call += `(` + s.args + `)`
	}
	if err := conn.QueryRow(t.Context(), `explain (format json) execute `+call,
		simple).Scan(&raw); err != nil {
		return "", err
	}
	if _, err := conn.Exec(t.Context(), `deallocate planned; reset plan_cache_mode`, simple); err != nil {
		return "", err
	}
	var explained []struct{ Plan plan }
	err := json.Unmarshal([]byte(raw), &explained)
	return explained[0].Plan.flat(), err
}

// joinedMark is a mark whose plan depends on statistics.
const joinedMark = `update payments p set status = 'sent', sent_at = now(), kafka_offset = u.kafka_offset
	from unnest($1::uuid[], $2::bigint[]) as u (id, kafka_offset) where p.id = u.id and p.status = 'created'`

// TestClaim_Work: what is read to mark a batch, and to mark what a takeover finds in the log, is
// the same with one payment waiting and with 200,000, by statistics from before they came.
func TestClaim_Work(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	f.exec(`alter table payments set (autovacuum_enabled = off)`)
	p := f.create(f.inPartition("model", 0, 12))
	f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 0; analyze payments`)
	f.tamper(`update payments set status = 'created', sent_at = null, kafka_offset = null`)
	p.Emission = &payment.Emission{At: p.CreatedAt}
	session := f.own(0)
	mark := func(c *store.Claim) error { return c.MarkSent(t.Context(), 0, 1, 1) }
	recover := func(c *store.Claim) error {
		_, err := c.Recover(t.Context(), []payment.Payment{p}, 1, false)
		return err
	}
	for _, waiting := range []int{1, 200_000} {
		if waiting > 1 {
			f.exec(fill(waiting))
		}
		// A mark is by ctid, which counts as no read. It reads the first that is still unsent.
		if got := workOf(t, f.claim(session, 1), session, mark); got > 1 {
			t.Errorf("with %d waiting, the mark of one payment reads %d rows, want at most 1", waiting, got)
		}
		if got := workOf(t, f.claim(session, 0), session, recover); got != 2 {
			// To compare it, and to mark it.
			t.Errorf("with %d waiting, a takeover that finds one payment reads %d rows, want 2", waiting, got)
		}
	}
	control := func(*store.Claim) error {
		_, err := session.Conn().Exec(t.Context(), joinedMark, [][16]byte{p.ID}, []int64{0})
		return err
	}
	if got := workOf(t, f.claim(session, 0), session, control); got < 200_000 {
		t.Errorf("a mark by a join reads %d rows: the control is not caught", got)
	}
}

// workOf counts the rows of payments that a piece of work reads within the claim, by indexes and by
// scans of the table. It rolls the claim back.
func workOf(t *testing.T, claim *store.Claim, session *store.Session, work func(*store.Claim) error) int64 {
	t.Helper()
	defer claim.Rollback()
	read := func() (n int64) {
		const sql = `select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'payments'`
		if err := session.Conn().QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := read()
	if err := work(claim); err != nil {
		t.Fatal(err)
	}
	return read() - before
}

// TestPlans_Control: without the settings of our connections a statement that was planned for a few
// payments keeps reading the whole table, and a mark that joins on `status = 'created'` reads
// all that waits. TestPlans must see both.
func TestPlans_Control(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	f.exec(`alter table payments set (autovacuum_enabled = off)`)
	f.exec(fill(100))
	f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 0; analyze`)
	f.exec(fill(1000))
	conn, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for sql, args := range map[string]string{
		store.FindSQL: `array[gen_random_uuid()]`,
		joinedMark:    `array[gen_random_uuid()], '{7}'`,
	} {
		got, err := explain(t, conn, "force_generic_plan", planned{sql: sql, args: args})
		if err != nil || strings.Contains(got, byID) {
			t.Errorf("%v: %s: the control is not caught", err, got)
		}
	}
}
