package store_test

import (
	"runtime"
	"testing"

	"github.com/paylatch/paylatch/internal/operatorlog"
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
