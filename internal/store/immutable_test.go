package store_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// wantKept wants the triggers of payments to refuse a statement.
func (f *fixture) wantKept(sql string) {
	f.t.Helper()
	err := f.try(sql)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "23001" ||
		!strings.HasPrefix(pg.Message, "payments: ") {
		f.t.Errorf("%s: got %v, want restrict_violation (23001) of payments", sql, err)
	}
}

const (
	// columnsOfPayments are all columns but those of a mark.
	columnsOfPayments = `select array_agg(attname::text order by attnum) from pg_attribute
		where attrelid = 'payments'::regclass and attnum > 0 and not attisdropped
		and attname not in ('status', 'sent_at', 'kafka_offset')`
	allowRetention = `set local paylatch.retention = on`
)

// TestImmutable_Content: no column of a payment can be changed but those of its mark, whether it is
// sent or not, and in whatever form of statement.
func TestImmutable_Content(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	p := f.create(f.payment("order-1"))
	columns := query[[]string](f, columnsOfPayments)
	if len(columns) < 13 {
		t.Fatalf("got columns %q, want all but those of a mark", columns)
	}
	for _, column := range columns {
		f.wantKept(`update payments set ` + column + ` = ` + column)
		f.wantKept(`update payments set status = 'sent', sent_at = now(), kafka_offset = 0, ` + column + ` = default`)
	}
	f.wantKept(`insert into payments select * from payments on conflict (id) do update set amount = 2`)
	f.wantKept(`merge into payments p using payments q on p.id = q.id when matched then update set amount = 2`)
	f.wantKept(`with changed as (update payments set amount = 2 returning id) select * from changed`)
	f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 0`)
	f.wantKept(`update payments set amount = 2`)
	if got := f.find(p.ID); len(got.Differences(p)) > 0 {
		t.Errorf("got %+v, want %+v", got, p)
	}
}

// TestImmutable_Kept: no payment can be deleted, except by a transaction of retention, which cannot
// delete one that is still to be sent.
func TestImmutable_Kept(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.createMany(2)
	f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 0
		where seq = (select min(seq) from payments)`)
	f.wantKept(`delete from payments`)
	f.wantKept(`delete from payments where status = 'sent'`)
	f.wantKept(`truncate payments`)
	f.wantKept(`truncate payments cascade`)
	tx := f.begin()
	for _, sql := range []string{allowRetention, `delete from payments where status = 'sent'`} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	_, err := tx.Exec(t.Context(), `delete from payments`)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "23001" {
		t.Errorf("got %v from retention that deletes an unsent payment, want restrict_violation (23001)", err)
	}
}

// TestImmutable_Marks: a mark is final. Only a transaction that allow_resend has prepared takes one
// back, and only for a role that may execute it.
func TestImmutable_Marks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.create(f.payment("order-1"))
	f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 0`)
	const unmark = `update payments set status = 'created', sent_at = null, kafka_offset = null`
	f.wantKept(unmark)
	f.wantKept(`update payments set kafka_offset = 1`)
	f.wantKept(`update payments set sent_at = sent_at + interval '1 s'`)
	if err := f.try(`update payments set status = 'accepted'`); err != nil {
		t.Errorf("got %v from an outcome, want none", err)
	}
	try := func(first string) error {
		tx := f.begin()
		defer func() { _ = tx.Rollback(t.Context()) }()
		_, err := tx.Exec(t.Context(), first+`; `+unmark, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	if err := try(`select allow_resend()`); err != nil {
		t.Errorf("got %v from the owner's resend, want none", err)
	}
	role := f.role()
	f.exec(`grant usage on schema public to ` + role + `; grant select, update on payments to ` + role)
	for _, first := range []string{`select allow_resend()`, `set local paylatch.resend = on`} {
		if err := try(`set local role ` + role + `; ` + first); err == nil {
			t.Errorf("got no error from %s of a role without the privilege, want one", first)
		}
	}
	f.exec(`grant execute on function allow_resend() to ` + role)
	if err := try(`set local role ` + role + `; select allow_resend()`); err != nil {
		t.Errorf("got %v from the resend of a role with the privilege, want none", err)
	}
	f.exec(`alter table payments disable trigger payments_stay_marked; update payments set status = 'accepted';
		alter table payments enable trigger payments_stay_marked`)
	if err := try(`select allow_resend()`); err == nil {
		t.Error("got no error from the resend of a payment with an outcome, want one")
	}
}

// TestImmutable_MarksPayNothing: PostgreSQL calls no trigger for a mark. It calls one for a resend,
// which shows that the measurement works.
func TestImmutable_MarksPayNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.createMany(3)
	const mark = `update payments set status = 'sent', sent_at = now(), kafka_offset = 0`
	if got := f.triggersOf(mark); len(got) != 0 {
		t.Errorf("got calls of %q for a mark, want none", got)
	}
	f.exec(mark)
	got := f.triggersOf(`update payments set status = 'created', sent_at = null, kafka_offset = null`)
	if !slices.Equal(got, []string{"payments_stay_marked"}) {
		t.Errorf("got calls of %q for a resend, want one trigger", got)
	}
}

// triggersOf executes a statement in a transaction that may send again, and rolls it back. It
// returns the triggers that were called.
func (f *fixture) triggersOf(sql string) (names []string) {
	f.t.Helper()
	tx := f.begin()
	defer func() { _ = tx.Rollback(f.t.Context()) }()
	if _, err := tx.Exec(f.t.Context(), `select allow_resend()`); err != nil {
		f.t.Fatal(err)
	}
	var raw []byte
	if err := tx.QueryRow(f.t.Context(), `explain (analyze, format json) `+sql).Scan(&raw); err != nil {
		f.t.Fatal(err)
	}
	var explained []struct {
		Triggers []struct {
			Name  string `json:"Trigger Name"`
			Calls int    `json:"Calls"`
		}
	}
	if err := json.Unmarshal(raw, &explained); err != nil {
		f.t.Fatal(err)
	}
	for _, t := range explained[0].Triggers {
		if t.Calls > 0 {
			names = append(names, t.Name)
		}
	}
	return names
}

// TestUnmarkFrom_Refused: without the privilege an operator's resend changes nothing.
func TestUnmarkFrom_Refused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.recover(inLog(f.createMany(1), 0), 2, false)
	session, err := f.Operate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	role := f.role()
	f.exec(`grant usage on schema public to ` + role + `;
		grant select on sequence payments_seq to ` + role + `;
		grant select, update on payments, topic_partitions to ` + role)
	if _, err := session.Conn().Exec(t.Context(), `set role `+role); err != nil {
		t.Fatal(err)
	}
	claim, err := session.ClaimWaiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Rollback()
	if _, err := claim.UnmarkFrom(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "allow_resend") {
		t.Errorf("got %v, want an error that names allow_resend", err)
	}
}
