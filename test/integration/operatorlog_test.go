package integration

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paylatch/paylatch/test/parts"
)

// loggedRow is a row of the operator's log, as `operator-log list --json` prints it.
type loggedRow struct {
	Seq                            int64
	Action, Command, Phase, Result string
	Open                           bool
}

// operatorLog lists the operator's log.
func (i *installation) operatorLog(t *testing.T) (rows []loggedRow) {
	t.Helper()
	for line := range strings.Lines(run(t, i.env, "operator-log", "list", "--json")) {
		var r loggedRow
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("got %q, %v; want a row", line, err)
		}
		rows = append(rows, r)
	}
	return rows
}

// verifyLog verifies the operator's log.
func (i *installation) verifyLog(t *testing.T) (report struct {
	Verdict string
	Unended int
},
) {
	t.Helper()
	out := run(t, i.env, "operator-log", "verify", "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("got %q, %v; want a report", out, err)
	}
	return report
}

// TestOperatorLog_Killed kills an operator's process when Kafka has the new partitions, and the
// database does not. The log then has an operation of unknown outcome. The same command goes on,
// and the log says so.
func TestOperatorLog_Killed(t *testing.T) {
	t.Parallel()
	i := install(t)
	before := len(i.operatorLog(t))
	i.onDatabase(t, func(conn *pgx.Conn) error {
		for _, sql := range []string{`begin`, `lock table topic_partitions in share mode`} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				return err
			}
		}
		grow := i.startGrow(t, 24)
		eventually(t, "the partitions wait to be recorded", func() error {
			if i.count(t, recordAwaited) != 1 {
				return errNotYet
			}
			return nil
		})
		_ = grow.cmd.Process.Kill()
		if err := grow.cmd.Wait(); err == nil {
			t.Errorf("got a process that has ended, want it to wait: nothing was tested\n%s", grow.output)
		}
		return nil
	})
	rows := i.operatorLog(t)
	last := rows[len(rows)-1]
	want := loggedRow{last.Seq, "partitions grow", "partitions grow", "begun", "", true}
	if len(rows) != before+1 || last != want {
		t.Errorf("got %d rows and %+v, want %d and %+v", len(rows), last, before+1, want)
	}
	if report := i.verifyLog(t); report.Verdict != "intact" || report.Unended != 1 {
		t.Errorf("got %+v, want an intact log and one operation that has not ended", report)
	}
	if text := run(t, i.env, "operator-log", "list"); !strings.Contains(text, "unknown: begun, not ended") {
		t.Errorf("got %s, want an unknown outcome in it", text)
	}
	run(t, i.env, "partitions", "grow", "24")
	rows = i.operatorLog(t)
	last = rows[len(rows)-1]
	want = loggedRow{last.Seq, "partitions grow", "partitions grow", "done", "", false}
	if len(rows) != before+2 || last != want || !rows[before].Open {
		t.Errorf("got %d rows and %+v, want %d and %+v, and the first one still unknown", len(rows), last, before+2,
			want)
	}
}

// wantDenied wants each statement to be denied to the role of the environment.
func wantDenied(t *testing.T, env map[string]string, statements ...string) {
	t.Helper()
	conn, err := parts.Connect(t.Context(), env["PAYLATCH_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	const insufficientPrivilege = "42501"
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != insufficientPrivilege {
			t.Errorf("%s: got %v, want it denied", sql, err)
		}
	}
}

// TestOperatorLog_Rights: an operator's role can append to the log and read it, and no more. The
// roles of the service cannot even read it.
func TestOperatorLog_Rights(t *testing.T) {
	t.Parallel()
	i := &installation{topic: parts.Topic(), env: map[string]string{"PAYLATCH_DATABASE_URL": parts.EmptyPostgres(t)}}
	run(t, i.env, "migrate", "up")
	api, sender, operator := i.groups(t)
	asOperator := i.as(t, operator)
	run(t, asOperator, "tenants", "create", "acme")
	run(t, asOperator, "operator-log", "list")
	run(t, asOperator, "operator-log", "verify")
	const insert = `insert into operator_log (os_user, host, version, command, action, phase, arguments, before, after)
		values ('u', 'h', 'v', 'c', 'a', 'done', '{}', '{}', '{}')`
	wantDenied(t, asOperator, `update operator_log set os_user = 'another'`, `delete from operator_log`,
		`truncate operator_log`, `update operator_log_head set seq = seq + 1`, `delete from operator_log_head`,
		`insert into operator_log_head (seq, hash) values (1, '')`, `alter table operator_log disable trigger all`,
		`set session_replication_role = replica`)
	for _, role := range []string{api, sender} {
		wantDenied(t, i.as(t, role), `select from operator_log`, `select from operator_log_head`, insert)
	}
	i.execute(t, insert) // As the owner: the statement is right, and only the role is not.
}
