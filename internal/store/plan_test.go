package store_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/store"
)

// plan is a node of EXPLAIN's answer.
type plan struct {
	Type     string `json:"Node Type"`
	Index    string `json:"Index Name"`
	Relation string `json:"Relation Name"`
	Plans    []plan `json:"Plans"`
}

// flat lists the nodes from p down, one line.
func (p plan) flat() string {
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

// backlog writes payments past the store, as many and as few per partition as a bad day would leave.
const backlog = `insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id, reference, partition)
	select gen_random_uuid(), tenant_id, n, currency, originator_id, beneficiary_id, sender_id, receiver_id, reference, n % 12
	from (select * from payments limit 1) as model, generate_series(1, 50000) as n`

// TestClaim_Plan: 50,000 unsent payments in 12 partitions. A claim must walk payments_unsent in its order and stop at the limit; sorting the backlog
// instead takes longer with every payment that waits (facts: 14 ms against 0.09 ms), so that an outage would not be caught up with. It must hold
// with no statistics, which is what a fresh installation has, with true ones, and with those of a day on which everything was sent, which is
// what an outage begins with; for the plan made for given values and for the one that PostgreSQL keeps for all values after five executions.
func TestClaim_Plan(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	f.create(f.payment("model"))
	f.exec(`alter table payments set (autovacuum_enabled = off)`) // The test says when there are statistics.
	f.exec(backlog)
	conn, err := f.db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `prepare claim(smallint, bigint) as `+store.ClaimPaymentsSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ name, sql string }{
		{"NeverAnalyzed", `select`},
		{"Analyzed", `analyze payments`},
		{"AllSentAnalyzed", `update payments set status = 'sent', sent_at = now(), kafka_offset = 0; analyze payments`},
		{"Outage", backlog},
	} {
		if _, err := conn.Exec(t.Context(), step.sql); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			if step.name != "AllSentAnalyzed" { // Then nothing waits, and any plan will do.
				t.Run(step.name+"/"+mode, func(t *testing.T) { wantWalk(t, conn.Conn(), mode) })
			}
		}
	}
}

// wantWalk wants the claim's plan to read payments by payments_unsent, in its order and with no sort beneath the limit.
func wantWalk(t *testing.T, conn *pgx.Conn, mode string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), `set plan_cache_mode = `+mode); err != nil {
		t.Fatal(err)
	}
	var raw string
	err := conn.QueryRow(t.Context(), `explain (format json) execute claim(3, 500)`, pgx.QueryExecModeSimpleProtocol).Scan(&raw)
	if err != nil {
		t.Fatal(err)
	}
	var explained []struct{ Plan plan }
	if err := json.Unmarshal([]byte(raw), &explained); err != nil || len(explained) != 1 {
		t.Fatalf("%v: %s", err, raw)
	}
	if got := explained[0].Plan.flat(); got != "Limit ← LockRows ← Index Scan payments_unsent payments" {
		t.Errorf("the claim walks by: %s", got)
	}
}

// TestFind_Plan: statistics were taken when there were a few payments, for which PostgreSQL reads the whole table; the plan is then kept, also when a million more have come a
// minute later. Find must use the index from the start. (The control is a connection without the store's settings.)
func TestFind_Plan(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	f.create(f.payment("model"))
	f.exec(`alter table payments set (autovacuum_enabled = off)`)
	f.exec(`insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id, reference, partition)
		select gen_random_uuid(), tenant_id, n, currency, originator_id, beneficiary_id, sender_id, receiver_id, reference, n % 12
		from payments, generate_series(1, 100) as n`)
	f.exec(`analyze payments`)
	walks := func(conn *pgx.Conn) (string, error) {
		if _, err := conn.Exec(t.Context(), `prepare find(uuid[]) as `+store.FindSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
			return "", err
		}
		var raw string
		if err := conn.QueryRow(t.Context(), `explain (format json) execute find(array[gen_random_uuid()])`, pgx.QueryExecModeSimpleProtocol).Scan(&raw); err != nil {
			return "", err
		}
		var explained []struct{ Plan plan }
		err := json.Unmarshal([]byte(raw), &explained)
		return explained[0].Plan.flat(), err
	}
	err := f.OnConn(t.Context(), func(conn *pgx.Conn) error {
		got, err := walks(conn)
		if !strings.Contains(got, "payments_id_is_unique") {
			t.Errorf("the find walks by: %s", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := f.db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Release()
	if got, err := walks(plain.Conn()); err != nil || got != "Seq Scan payments" {
		t.Errorf("%v; without the settings the find walks by %s, so that this test shows nothing", err, got)
	}
}
