package store_test

import (
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/operatorlog"
	"github.com/paylatch/paylatch/internal/store"
)

// liveBytes returns the size of what is live on the heap.
func liveBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// peak verifies the log and returns by how much the live heap grew at most. It calls each with
// every row.
func (f *fixture) peak(rows int64, each func(operatorlog.Entry)) (bytes uint64) {
	f.t.Helper()
	before := liveBytes()
	n := int64(0)
	r, err := f.VerifyOperatorLog(f.t.Context(), nil, func(e operatorlog.Entry) {
		each(e)
		n++
		if n%10_000 == 0 {
			bytes = max(bytes, max(liveBytes(), before)-before)
		}
	})
	if err != nil || r.Verdict != operatorlog.Intact || r.Rows != rows || n != rows {
		f.t.Errorf("got %d of %d rows, %s, %q, %v; want %d, %s", r.Rows, n, r.Verdict, r.Fault, err, rows,
			operatorlog.Intact)
	}
	return bytes
}

// TestOperatorLog_Large: a log of 100,000 rows is verified in the memory of a page. It does not run
// in parallel: the heap is that of the whole process. Keeping the rows is the control.
func TestOperatorLog_Large(t *testing.T) {
	f := newLog(t)
	const rows, bytesMax = 100_000, 16 << 20
	f.fillLog(rows)
	if got := f.peak(rows, func(operatorlog.Entry) {}); got > bytesMax {
		t.Errorf("got %d bytes live, want at most %d", got, bytesMax)
	}
	var all []operatorlog.Entry
	if got := f.peak(rows, func(e operatorlog.Entry) { all = append(all, e) }); got <= bytesMax {
		t.Errorf("got %d bytes live with all rows kept, want more than %d: the control is not caught", got, bytesMax)
	}
	runtime.KeepAlive(all)
	if list, err := f.OperatorLog(t.Context(), 501, 2); err != nil || len(list) != 2 || list[0].Seq != 499 {
		t.Errorf("got %d rows, %v; want rows 499 and 500", len(list), err)
	}
}

// logPlans are the statements of the operator's log, with those of its trigger.
var logPlans = []planned{
	{
		"append", store.InsertLoggedSQL, `'u', 'h', 'v', 'c', 'a', 'done', 0, '', '{}', '{}', '{}'`,
		"ModifyTable operator_log ← Result",
	},
	{
		"lock the head", `select * from operator_log_head where only_row for update`, ``,
		"LockRows ← Index Scan operator_log_head_is_one_row operator_log_head",
	},
	{
		"find what began", `select from operator_log where seq = $1 and phase = 'begun' and action = $2`, `7, 'a'`,
		"Index Scan operator_log_seq_is_unique operator_log",
	},
	{
		"newest", store.SelectLogNewestSQL, `7, 50`,
		"Limit ← Index Scan operator_log_seq_is_unique operator_log ← Index Scan operator_log_begun operator_log",
	},
	{"page", store.SelectLogPageSQL, `7, 1000`, "Limit ← Index Scan operator_log_seq_is_unique operator_log"},
	{"head", store.SelectLogHeadSQL, ``, "Index Scan operator_log_head_is_one_row operator_log_head"},
}

// TestPlans_OperatorLog: the plans of the log's statements do not depend on its size, nor on what
// PostgreSQL knows of that.
func TestPlans_OperatorLog(t *testing.T) {
	t.Parallel()
	f := newLog(t)
	f.exec(`alter table operator_log set (autovacuum_enabled = off)`)
	for _, regime := range []struct {
		name string
		rows int
		sql  string
	}{
		{"Small", 0, `select`},
		{"Small, analyzed", 0, `analyze operator_log, operator_log_head`},
		{"Large", 50_000, `select`},
		{"Large, analyzed", 0, `analyze operator_log, operator_log_head`},
	} {
		if regime.rows > 0 {
			f.fillLog(regime.rows)
		}
		f.exec(regime.sql)
		if err := f.OnConn(t.Context(), func(conn *pgx.Conn) error {
			wantPlans(t, regime.name, conn, logPlans)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
