package keycache

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// uses collects the keys that were used in a period. A request whose key was used in the period
// already costs one atomic load. Safe for concurrent use.
type uses struct {
	// keysMax bounds the keys of a period. More are not collected.
	keysMax int
	// period counts the periods.
	period atomic.Int64

	mu   sync.Mutex
	keys map[int32]struct{}
}

// note notes that a cached key is used.
func (u *uses) note(key *liveKey) {
	period := u.period.Load() + 1 // A key that was never used has 0.
	if key.usedIn.Load() == period {
		return
	}
	key.usedIn.Store(period)
	u.add(key.access.KeyID)
}

// add adds the id of a key.
func (u *uses) add(id int32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.keys == nil {
		u.keys = map[int32]struct{}{}
	}
	if len(u.keys) < u.keysMax {
		u.keys[id] = struct{}{}
	}
}

// take ends the period, and returns its keys. A use that is concurrent may count for the next one.
func (u *uses) take() []int32 {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.period.Add(1)
	ids := slices.Collect(maps.Keys(u.keys))
	u.keys = nil
	return ids
}
