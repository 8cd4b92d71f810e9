package metrics

import (
	"sync"
	"time"
)

// oldest measures, by the clock of this process, how long the oldest payment of each partition has
// been seen waiting. The database's clock may be set back, and until it has caught up a waiting
// payment would seem to be new. Safe for concurrent use.
type oldest struct {
	mu sync.Mutex
	// seen has the oldest payment by partition.
	seen map[int32]sighting
}

// sighting is a payment, and since when it has been seen as the oldest.
type sighting struct {
	seq   int64
	since time.Time
}

// waiting returns how long seq has been seen as the oldest payment of the partition. A seq of 0
// means that the partition has none.
func (o *oldest) waiting(partition int32, seq int64) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if seq == 0 {
		delete(o.seen, partition)
		return 0
	}
	if o.seen[partition].seq != seq {
		o.seen[partition] = sighting{seq, time.Now()}
	}
	return time.Since(o.seen[partition].since)
}
