package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/operatorlog"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// logEntries returns all rows of the operator's log.
func (f *fixture) logEntries() []store.LoggedEntry {
	f.t.Helper()
	entries, err := f.OperatorLog(f.t.Context(), 0, store.OperatorLogMax)
	if err != nil {
		f.t.Fatal(err)
	}
	return entries
}

// verifyLog verifies the operator's log.
func (f *fixture) verifyLog(kept *operatorlog.Head) operatorlog.Report {
	f.t.Helper()
	r, err := f.VerifyOperatorLog(f.t.Context(), kept, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// wantLog wants the log to be whole and to have so many rows.
func (f *fixture) wantLog(rows int64) {
	f.t.Helper()
	if r := f.verifyLog(nil); r.Verdict != operatorlog.Intact || r.Rows != rows {
		f.t.Errorf("got %d rows, %s, %q; want %d, %s", r.Rows, r.Verdict, r.Fault, rows, operatorlog.Intact)
	}
}

// concurrently runs an operator's commands of many kinds at once, each on a store of its own, and
// returns their errors.
func (f *fixture) concurrently(commands int) []error {
	f.t.Helper()
	errs := make([]error, commands)
	var running sync.WaitGroup
	for i := range commands {
		s := openStore(f.t, f.url)
		running.Go(func() {
			switch ctx := f.t.Context(); i % 4 {
			case 0:
				errs[i] = s.Halt(ctx, int32(i)+1, "why")
			case 1:
				_, errs[i] = s.CreateTenant(ctx, fmt.Sprintf("tenant-%d", i))
			case 2:
				errs[i] = s.RevokeAPIKey(ctx, "acme", int32(i/4)+1)
			case 3:
				_, errs[i] = s.BeginOperation(ctx, store.Change{Action: store.PartitionsInit})
			}
		})
	}
	running.Wait()
	return errs
}

// TestOperatorLog_LongCommand: 20 commands run at once, and one of them is long: it has its effect
// and keeps its transaction open until all the others are on record. None waits for it, since it
// locks the head of the log only when it writes its row. The chain is whole.
func TestOperatorLog_LongCommand(t *testing.T) {
	t.Parallel()
	const commands = 20
	f := newFixture(t, commands)
	for range 5 {
		f.addKey()
	}
	before := f.verifyLog(nil).Rows
	session, err := f.Operate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	long, err := session.ClaimWaiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	operation, err := long.BeginOperation(t.Context(), store.Change{Action: store.PartitionsMode})
	if err != nil {
		t.Fatal(err)
	}
	if err := long.SetDelivery(t.Context(), store.DeliveryFenced); err != nil {
		t.Fatal(err)
	}
	for i, err := range f.concurrently(commands - 1) {
		if err != nil {
			t.Errorf("command %d: got %v, want it on record while the long command runs", i, err)
		}
	}
	f.wantLog(before + commands)
	if err := long.EndOperation(t.Context(), operation, nil); err != nil {
		t.Fatal(err)
	}
	if err := long.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wantLog(before + commands + 1)
}

// TestOperatorLog_LongCommand_Control: a command that writes its row first and then works keeps the
// others waiting, until they give up. TestOperatorLog_LongCommand would notice it.
func TestOperatorLog_LongCommand_Control(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	tx := f.begin()
	const insert = `insert into operator_log (os_user, host, version, command, action, phase, arguments, before, after)
		values ('u', 'h', 'v', 'c', 'a', 'done', 'null', 'null', 'null')`
	if _, err := tx.Exec(t.Context(), insert); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateTenant(t.Context(), "other"); err == nil {
		t.Error("got a command that does not wait for the head of the log, want one that gives up")
	}
}

// TestOperatorLog_Rollback: a command that fails, or whose transaction is rolled back, writes
// nothing, and no number is lost.
func TestOperatorLog_Rollback(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	rows := f.verifyLog(nil).Rows
	key, _ := f.addKey()
	f.wantLog(rows + 1)
	if _, err := f.CreateTenant(t.Context(), "acme"); !errors.Is(err, store.ErrTenantExists) {
		t.Errorf("got %v, want %v", err, store.ErrTenantExists)
	}
	if _, err := f.AddAPIKey(t.Context(), "acme", key, store.Unrestricted); !errors.Is(err, store.ErrKeyExists) {
		t.Errorf("got %v, want %v", err, store.ErrKeyExists)
	}
	if err := f.RevokeAPIKey(t.Context(), "acme", 99); !errors.Is(err, store.ErrNoAPIKey) {
		t.Errorf("got %v, want %v", err, store.ErrNoAPIKey)
	}
	if err := f.Resume(t.Context(), 0); !errors.Is(err, store.ErrNoPartition) {
		t.Errorf("got %v, want %v", err, store.ErrNoPartition)
	}
	f.wantLog(rows + 1)

	claim := f.claim(f.own(0), 0)
	operation, err := claim.BeginOperation(t.Context(), store.Change{Action: store.PartitionsMode})
	if err != nil {
		t.Fatal(err)
	}
	if err := claim.EndOperation(t.Context(), operation, nil); err != nil {
		t.Fatal(err)
	}
	claim.Rollback()
	f.wantLog(rows + 2) // The row that begins it has its own transaction.
	if _, err := f.CreateTenant(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	f.wantLog(rows + 3)
}

// TestOperatorLog_Operation: an operation ends once, under the action that began. Until then its
// outcome is unknown.
func TestOperatorLog_Operation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	var heads []operatorlog.Head
	ctx := operatorlog.NewContext(t.Context(), operatorlog.Command{
		Operator: operatorlog.Operator{OSUser: "ü'ser", Host: "h\n", Version: "\\", Command: `"c"`},
		Recorded: func(_ string, head operatorlog.Head) { heads = append(heads, head) },
	})
	begin := func() *store.Operation {
		o, err := f.BeginOperation(ctx, store.Change{
			Action: store.PartitionsGrow, Arguments: map[string]string{"é": "<&>"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	first, second := begin(), begin()
	for range 2 { // The second call finds it ended.
		if err := f.EndOperation(ctx, first, operatorlog.Failed); err != nil {
			t.Fatal(err)
		}
	}
	entries := f.logEntries()
	got := entries[len(entries)-3:]
	for i, want := range []struct {
		phase  operatorlog.Phase
		result operatorlog.Result
		begun  int64
		open   bool
	}{
		{operatorlog.Begun, "", 0, false},
		{operatorlog.Begun, "", 0, true},
		{operatorlog.Ended, operatorlog.Failed, got[0].Seq, false},
	} {
		e := got[i]
		if e.Phase != want.phase || e.Result != want.result || e.Begun != want.begun || e.Open != want.open {
			t.Errorf("row %d: got %s %q, begun by %d, open %t; want %+v", e.Seq, e.Phase, e.Result, e.Begun, e.Open,
				want)
		}
		if e.Command != `"c"` || e.OSUser != "ü'ser" || heads[i] != e.Head() {
			t.Errorf("row %d: got %+v and head %v, want the command of the context and its head", e.Seq, e.Entry,
				heads[i])
		}
	}
	if r := f.verifyLog(&heads[2]); r.Verdict != operatorlog.Intact || r.Unended != 1 {
		t.Errorf("got %+v, want %s and one operation that has not ended", r, operatorlog.Intact)
	}
	for _, sql := range []string{
		endRow(got[0].Seq, store.PartitionsGrow), endRow(got[1].Seq, store.PartitionsInit), endRow(1, "migrate up"),
	} {
		if err := f.try(sql); err == nil {
			t.Errorf("%s: got no error, want a row refused that ends what has ended, or did not begin so", sql)
		}
	}
	if err := f.try(endRow(got[1].Seq, store.PartitionsGrow)); err != nil {
		t.Errorf("got %v, want a row that ends the second operation: the control", err)
	}
	if err := f.EndOperation(ctx, second, operatorlog.Unknown); err != nil {
		t.Error(err)
	}
}

// endRow inserts a row that ends an operation.
func endRow(begun int64, action string) string {
	return fmt.Sprintf(`insert into operator_log (os_user, host, version, command, action, phase, begun, result,
		arguments, before, after) values ('u', 'h', 'v', 'c', '%s', 'ended', %d, 'unknown', 'null', 'null', 'null')`,
		action, begun)
}

// TestOperatorLog_Who: PostgreSQL decides who a row is of, when it was written and where it stands
// in the chain, whatever a program says, and also after SET ROLE.
func TestOperatorLog_Who(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	tx := f.begin()
	for _, sql := range []string{
		`set local role pg_read_all_data`, `reset role`,
		`insert into operator_log (seq, format, at, system_id, timeline, database_id, table_id, role, client_address,
			os_user, host, version, command, action, phase, arguments, before, after, previous, hash)
			values (7, 9, '2001-01-01', 1, 1, 1, 1, 'another', '10.9.9.9', 'u', 'h', 'v', 'c', 'a', 'done', '{}', '{}',
			'{}', '\x00', '\x00')`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries := f.logEntries()
	e := entries[len(entries)-1]
	if e.Seq != int64(len(entries)) || e.Role == "another" || e.ClientAddress == "10.9.9.9" || e.At.Year() == 2001 ||
		e.Database == (operatorlog.Database{SystemID: 1, Timeline: 1, DatabaseID: 1, TableID: 1}) {
		t.Errorf("got %+v, want what PostgreSQL knows", e)
	}
	f.wantLog(int64(len(entries)))
}

// TestOperatorLog_Owner: the owner of the schema need not be a superuser.
func TestOperatorLog_Owner(t *testing.T) {
	t.Parallel()
	database := parts.EmptyPostgres(t)
	db := openDB(t, database)
	login := "owner_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	for _, sql := range []string{
		`create role ` + login + ` login password 'secret'`, `grant create, usage on schema public to ` + login,
	} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		sql := fmt.Sprintf(`drop owned by %[1]s; drop role %[1]s`, login)
		if _, err := db.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(login, "secret")
	if _, err := store.MigrateUp(t.Context(), u.String(), migrations.FS); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, url: u.String(), db: db, Store: openStore(t, u.String())}
	f.newTenant("acme")
	entries := f.logEntries()
	if e := entries[len(entries)-1]; e.Role != login {
		t.Errorf("got the role %s, want %s", e.Role, login)
	}
	f.wantLog(int64(len(entries)))
}

// TestOperatorLog_Migrations: each migration writes a row in its transaction, up and down, once the
// log exists.
func TestOperatorLog_Migrations(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	files := fstest.MapFS{}
	entries, err := migrations.FS.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := migrations.FS.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = &fstest.MapFile{Data: data}
	}
	next := migrations.Latest() + 1
	name := func(n int32) string { return fmt.Sprintf("%03d_a_test.sql", n) }
	files[name(next)] = &fstest.MapFile{Data: []byte("select 1;\n---- create above / drop below ----\nselect 1;")}
	files[name(next+1)] = &fstest.MapFile{Data: []byte("select 1 / 0;")}
	rows := f.verifyLog(nil).Rows
	var recorded []operatorlog.Head
	ctx := operatorlog.NewContext(t.Context(), operatorlog.Command{
		Operator: operatorlog.ThisProcess("migrate up"),
		Recorded: func(_ string, head operatorlog.Head) { recorded = append(recorded, head) },
	})
	if _, err := store.MigrateUp(ctx, f.url, files); err == nil || !strings.Contains(err.Error(), name(next+1)) {
		t.Fatalf("got %v, want the error of the second migration", err)
	}
	f.wantLog(rows + 1)
	delete(files, name(next+1))
	if _, err := store.MigrateDown(ctx, f.url, files); err != nil {
		t.Fatal(err)
	}
	f.wantLog(rows + 2)
	all := f.logEntries()
	for i, want := range []string{
		fmt.Sprintf(`migrate up {"schema_version":%d} {"schema_version":%d}`, next-1, next),
		fmt.Sprintf(`migrate down {"schema_version":%d} {"schema_version":%d}`, next, next-1),
	} {
		e := all[int(rows)+i]
		if got := fmt.Sprintf("%s %s %s", e.Action, e.Before, e.After); got != want || recorded[i] != e.Head() {
			t.Errorf("got %s and head %s, want %s and %s", got, recorded[i], want, e.Head())
		}
	}
}

// TestOperatorLog_Size: the log has a bound for each row, and a change beyond it is refused.
func TestOperatorLog_Size(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	for bytes, ok := range map[int]bool{2046: true, 2047: false} {
		_, err := f.BeginOperation(t.Context(), store.Change{Action: "a", Arguments: strings.Repeat("x", bytes)})
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "operator_log_arguments_in_bounds") {
			t.Errorf("%d bytes: got %v, want success %t", bytes, err, ok)
		}
	}
}

// tamper changes the log behind the back of its triggers, as a superuser can.
func tamper(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := parts.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `set session_replication_role = replica; `+sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// newLog returns a fixture on a database that is no copy of another one, with a log of 9 rows that
// other tests may spoil.
func newLog(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, url: parts.EmptyPostgres(t)}
	if _, err := store.MigrateUp(t.Context(), f.url, migrations.FS); err != nil {
		t.Fatal(err)
	}
	f.db = openDB(t, f.url)
	f.Store = openStore(t, f.url)
	for n := f.verifyLog(nil).Rows; n < 9; n++ {
		f.newTenant(fmt.Sprintf("tenant-%d", n))
	}
	return f
}

// TestOperatorLog_Tampered finds what a superuser has done to the log, and names the first row.
func TestOperatorLog_Tampered(t *testing.T) {
	t.Parallel()
	const cutHead = `delete from operator_log where seq > 6;
		update operator_log_head set (seq, hash) = (select seq, hash from operator_log where seq = 6)`
	for name, row := range map[string]struct {
		sql      string
		firstBad int64
		// kept is the row whose head was kept; 0 if none was.
		kept int64
	}{
		"Untouched":      {`select`, 0, 0},
		"UntouchedKept":  {`select`, 0, 9},
		"Changed":        {`update operator_log set os_user = 'another' where seq = 5`, 5, 0},
		"ChangedTime":    {`update operator_log set at = at + interval '1 microsecond' where seq = 5`, 5, 0},
		"ChangedHash":    {`update operator_log set hash = sha256(hash) where seq = 5`, 5, 0},
		"ChangedJSON":    {`update operator_log set after = after::jsonb::json where seq = 5`, 5, 0},
		"Removed":        {`delete from operator_log where seq = 5`, 5, 0},
		"RemovedFirst":   {`delete from operator_log where seq = 1`, 1, 0},
		"RemovedSeveral": {`delete from operator_log where seq between 5 and 6`, 5, 0},
		"Swapped": {`update operator_log set seq = -seq - 1 where seq in (5, 6);
			update operator_log set seq = case seq when -6 then 6 else 5 end where seq < 0`, 5, 0},
		"Inserted": {`update operator_log set seq = seq + 100 where seq > 5;
			update operator_log set seq = seq - 99 where seq > 100;
			insert into operator_log select 6, format, at, system_id, timeline, database_id, table_id, role,
				client_address, os_user, host, version, command, action, phase, begun, result, arguments, before, after,
				previous, hash from operator_log where seq = 5`, 6, 0},
		"Cut":            {`delete from operator_log where seq > 6`, 7, 0},
		"CutAll":         {`delete from operator_log`, 1, 0},
		"CutWithTheHead": {cutHead, 7, 9},
		"HeadRemoved":    {`delete from operator_log_head`, 10, 0},
		"HeadBack": {`update operator_log_head
			set (seq, hash) = (select seq, hash from operator_log where seq = 6)`, 7, 0},
		"HeadChanged": {`update operator_log_head set hash = sha256(hash)`, 9, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newLog(t)
			var kept *operatorlog.Head
			if row.kept > 0 {
				head := f.logEntries()[row.kept-1].Head()
				kept = &head
			}
			tamper(t, f.url, `alter table operator_log drop constraint operator_log_seq_is_positive; `+row.sql)
			want := operatorlog.Tampered
			if row.firstBad == 0 {
				want = operatorlog.Intact
			}
			if r := f.verifyLog(kept); r.Verdict != want || r.FirstBad != row.firstBad {
				t.Errorf("got %s, row %d, %q; want %s, row %d", r.Verdict, r.FirstBad, r.Fault, want, row.firstBad)
			}
			if name != "CutWithTheHead" {
				return
			}
			if r := f.verifyLog(nil); r.Verdict != operatorlog.Intact {
				t.Errorf("without the head: got %s, want %s: the head shows nothing", r.Verdict, operatorlog.Intact)
			}
		})
	}
}

// TestOperatorLog_Rewritten: a chain that was written again is noticed by a head that was kept, and
// by nothing else.
func TestOperatorLog_Rewritten(t *testing.T) {
	t.Parallel()
	f := newLog(t)
	kept := f.logEntries()[8].Head()
	tamper(t, f.url, `do $$ declare r operator_log; last bytea := (select hash from operator_log where seq = 4);
		begin
			for r in select * from operator_log where seq > 4 order by seq loop
				r.previous := last;
				r.os_user := 'another';
				last := sha256(r.previous || operator_log_encoding(r));
				update operator_log set os_user = r.os_user, previous = r.previous, hash = last where seq = r.seq;
			end loop;
			update operator_log_head set hash = last;
		end $$`)
	f.wantLog(9)
	if r := f.verifyLog(&kept); r.Verdict != operatorlog.Tampered || r.FirstBad != 9 {
		t.Errorf("got %s, row %d, %q; want %s, row 9", r.Verdict, r.FirstBad, r.Fault, operatorlog.Tampered)
	}
}

// TestOperatorLog_Restored: two copies of one database go on apart. Each has a whole chain, knows
// from which row on it is another database, and does not have the head of the other.
func TestOperatorLog_Restored(t *testing.T) {
	t.Parallel()
	one, two := newFixture(t, 1), newFixture(t, 1) // Both are copies of one template.
	one.addKey()
	entries := one.logEntries()
	head := entries[len(entries)-1].Head()
	if r := one.verifyLog(&head); r.Verdict != operatorlog.Intact || r.MovesTotal != 1 {
		t.Errorf("the same copy: got %s, %d moves; want %s, 1", r.Verdict, r.MovesTotal, operatorlog.Intact)
	}
	shorter := two.verifyLog(&head)
	if shorter.Verdict != operatorlog.OtherCopy || !strings.Contains(shorter.Fault, "older copy") {
		t.Errorf("a shorter copy: got %s, %q; want %s", shorter.Verdict, shorter.Fault, operatorlog.OtherCopy)
	}
	two.addKey()
	if r := two.verifyLog(&head); r.Verdict != operatorlog.OtherCopy || r.MovesTotal != 1 {
		t.Errorf("a copy that was written on: got %s, %d moves; want %s, 1", r.Verdict, r.MovesTotal,
			operatorlog.OtherCopy)
	}
}

// logRows makes a chain of rows to copy into an empty log.
func logRows(n int, at operatorlog.Entry) [][]any {
	rows := make([][]any, n)
	at.Previous = operatorlog.Hash{}
	for i := range rows {
		at.Seq = int64(i + 1)
		at.Hash = at.Sum()
		e := at
		d := e.Database
		rows[i] = []any{
			e.Seq, e.Format, e.At, d.SystemID, d.Timeline, d.DatabaseID, d.TableID, e.Role, e.ClientAddress, e.OSUser,
			e.Host, e.Version, e.Command, e.Action, string(e.Phase), e.Begun, string(e.Result), string(e.Arguments),
			string(e.Before), string(e.After), e.Previous[:], e.Hash[:],
		}
		at.Previous = e.Hash
	}
	return rows
}

var logColumns = strings.Fields(`seq format at system_id timeline database_id table_id role client_address os_user host
	version command action phase begun result arguments before after previous hash`)

// fillLog replaces the log by n rows.
func (f *fixture) fillLog(n int) {
	f.t.Helper()
	entries := f.logEntries()
	last := entries[len(entries)-1].Entry
	last.Arguments = json.RawMessage(`{"tenant":"` + strings.Repeat("a", 200) + `"}`)
	rows := logRows(n, last)
	conn, err := f.db.Acquire(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Release()
	const clear = `set session_replication_role = replica; truncate operator_log`
	if _, err := conn.Exec(f.t.Context(), clear); err != nil {
		f.t.Fatal(err)
	}
	if _, err := conn.CopyFrom(f.t.Context(), pgx.Identifier{"operator_log"}, logColumns,
		pgx.CopyFromRows(rows)); err != nil {
		f.t.Fatal(err)
	}
	const finish = `update operator_log_head
			set (seq, hash) = (select seq, hash from operator_log order by seq desc limit 1);
		set session_replication_role = origin`
	if _, err := conn.Exec(f.t.Context(), finish); err != nil {
		f.t.Fatal(err)
	}
}
