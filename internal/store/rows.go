package store

import "sync"

const (
	// internedBytesMax bounds each of the caches of parties and accounts. With contents of 40 bytes
	// that is 197,000 rows, with the longest ones 67,000. It counts bytes, since a tenant decides
	// how long the contents are.
	internedBytesMax = 64 << 20
	// rowBytes is what an entry takes besides its texts: two slots of maps, which are half full,
	// and a place in the queue.
	rowBytes = 300
)

// rowCache keeps interned rows, by content and by id, in a bounded number of bytes. Rows are
// immutable, so an entry that is committed never changes. It stays until newer ones need its place.
// Lookups do not count as use: to note them would cost more than the lookup itself. It is safe for
// concurrent use.
type rowCache struct {
	bytesMax int

	mu    sync.RWMutex
	ids   map[content]int64
	named map[int64]content
	bytes int
	// queue has the ids in the order in which they were added. Those before first are gone.
	queue []int64
	first int
}

func newRowCache(bytesMax int) *rowCache {
	return &rowCache{bytesMax: bytesMax, ids: map[content]int64{}, named: map[int64]content{}}
}

// id returns the id of the row that holds c.
func (r *rowCache) id(c content) (id int64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	id, ok = r.ids[c]
	return id, ok
}

// content returns what the row holds.
func (r *rowCache) content(id int64) (c content, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok = r.named[id]
	return c, ok
}

// add adds a row that is committed, and removes the oldest ones that no longer fit.
func (r *rowCache) add(c content, id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.named[id]; known {
		return
	}
	r.ids[c], r.named[id] = id, c
	r.queue = append(r.queue, id)
	r.bytes += c.bytes()
	for r.bytes > r.bytesMax {
		r.removeOldest()
	}
}

// removeOldest removes the row that was added first. The caller holds mu.
func (r *rowCache) removeOldest() {
	id := r.queue[r.first]
	r.first++
	if r.first > len(r.queue)/2 { // So each id is moved once on average.
		r.queue = append(r.queue[:0], r.queue[r.first:]...)
		r.first = 0
	}
	c := r.named[id]
	delete(r.named, id)
	delete(r.ids, c)
	r.bytes -= c.bytes()
}

// bytes returns the memory that an entry with the content takes.
func (c content) bytes() int { return rowBytes + len(c.a) + len(c.b) }
