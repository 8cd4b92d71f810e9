package store

import (
	"context"
	"sync"
	"time"
)

const (
	// lastUseEvery is how often the last use of keys is recorded, which is to the minute.
	lastUseEvery = 20 * time.Second
	// lastUseTimeout bounds the statement. What it does not record is lost: the key's next use is
	// recorded.
	lastUseTimeout = 2 * time.Second
)

// updateLastUsed records that keys were used in this minute. At most one replica writes a key's
// row, once a minute. It skips rows that another one is writing. The commit is asynchronous:
// nothing depends on it, and it must not wait for a standby.
const updateLastUsed = `with asynchronous as materialized (select set_config('synchronous_commit', 'off', true)),
	stale as materialized (
		select id from api_keys where id = any($1::integer[])
			and (last_used_at is null or last_used_at < date_trunc('minute', now()))
		for no key update skip locked)
	update api_keys k set last_used_at = date_trunc('minute', now())
	from stale, asynchronous where k.id = stale.id`

// lastUse records when keys were last used, until it is closed.
type lastUse struct {
	used   func() []int32
	record func(ctx context.Context, ids []int32)

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// newLastUse starts to record. used returns the keys that were used since its last call.
func newLastUse(used func() []int32, record func(context.Context, []int32)) *lastUse {
	ctx, cancel := context.WithCancel(context.Background())
	u := &lastUse{used: used, record: record, cancel: cancel}
	u.done.Go(func() { u.run(ctx) })
	return u
}

// run records periodically, and once more at its end.
func (u *lastUse) run(ctx context.Context) {
	ticker := time.NewTicker(lastUseEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		if ids := u.used(); len(ids) > 0 {
			u.record(context.WithoutCancel(ctx), ids)
		}
	}
}

// close records what is left and ends.
func (u *lastUse) close() {
	u.cancel()
	u.done.Wait()
}

// recordLastUse records that keys were used. An error is logged: no request depends on it.
func (s *Store) recordLastUse(ctx context.Context, ids []int32) {
	ctx, cancel := context.WithTimeout(ctx, lastUseTimeout)
	defer cancel()
	if _, err := s.pool.Exec(ctx, updateLastUsed, ids); err != nil {
		s.logger.Debug("last use of keys not recorded", "keys", len(ids), "error", translate(err))
	}
}
