package store

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// row returns a content of its own for each n, with a text of textBytes.
func row(n, textBytes int) content {
	number := fmt.Sprintf("%012d", n)
	return content{int32(n % 3), number, strings.Repeat("x", textBytes-len(number)) + number}
}

// TestRowCache_Both: a row is found by its content and by its id, until newer ones need its place.
func TestRowCache_Both(t *testing.T) {
	t.Parallel()
	const rowsMax, rows, textBytes = 100, 1000, 50
	r := newRowCache(rowsMax * row(0, textBytes).bytes())
	for n := range rows {
		r.add(row(n, textBytes), int64(n))
		r.add(row(n, textBytes), int64(n)) // As two replicas of a batch do.
		for _, there := range []int{n, max(0, n-rowsMax+1)} {
			id, known := r.id(row(there, textBytes))
			c, named := r.content(int64(there))
			if !known || !named || id != int64(there) || c != row(there, textBytes) {
				t.Fatalf("after %d rows: got id %d (%t) and %v (%t), want row %d", n+1, id, known, c, named, there)
			}
		}
		gone := n - rowsMax
		_, known := r.id(row(gone, textBytes))
		_, named := r.content(int64(gone))
		if gone >= 0 && (known || named) {
			t.Fatalf("after %d rows: got row %d, want it gone", n+1, gone)
		}
	}
	if len(r.ids) != rowsMax || len(r.named) != rowsMax || len(r.queue)-r.first != rowsMax {
		t.Errorf("got %d ids, %d contents, and %d in the queue, want %d of each", len(r.ids), len(r.named),
			len(r.queue)-r.first, rowsMax)
	}
	if len(r.queue) > 2*rowsMax+1 {
		t.Errorf("got a queue of %d places for %d rows, want at most twice as many", len(r.queue), rowsMax)
	}
}

// heapBytes returns what is live.
func heapBytes() int {
	runtime.GC()
	runtime.GC() // What the first one has freed is swept by the second.
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestRowCache_Bytes: the cache takes the memory that its bound says, whatever the length of the
// contents. The texts of parties have at most 35 and 140 characters of 4 bytes.
func TestRowCache_Bytes(t *testing.T) {
	const bytesMax, textBytesMax = 8 << 20, (35 + 140) * 4
	for _, textBytes := range []int{20, textBytesMax} {
		before := heapBytes()
		r := newRowCache(bytesMax)
		for n := range 4 * bytesMax / rowBytes {
			r.add(row(n, textBytes), int64(n))
		}
		took := heapBytes() - before
		t.Logf("texts of %d bytes: %d rows in %d bytes", textBytes, len(r.named), took)
		if took > bytesMax*5/4 || took < bytesMax/4 {
			t.Errorf("texts of %d bytes: got %d bytes, want about %d", textBytes, took, bytesMax)
		}
		runtime.KeepAlive(r)
	}
}

// TestRowCache_Concurrent adds and looks up at once, for the race detector.
func TestRowCache_Concurrent(t *testing.T) {
	t.Parallel()
	r := newRowCache(50 * row(0, 20).bytes())
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			for n := range 2000 {
				r.add(row(n, 20), int64(n))
				if id, ok := r.id(row(n-w, 20)); ok && id != int64(n-w) {
					t.Errorf("got id %d, want %d", id, n-w)
				}
				if c, ok := r.content(int64(n - w)); ok && c != row(n-w, 20) {
					t.Errorf("got %v, want %v", c, row(n-w, 20))
				}
			}
		})
	}
	workers.Wait()
}
