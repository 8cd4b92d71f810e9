package store

import (
	"context"
	"time"
)

const (
	// notifyTimeout bounds one notification. If it fails, the polling of the senders finds the
	// payments.
	notifyTimeout = 2 * time.Second
	// notifyChannel is the channel of NOTIFY. The payload names partitions; see notify.Partitions.
	notifyChannel = "paylatch_created"
	// payloadRebalance is the payload that requests a rebalance. Earlier versions send it, too.
	payloadRebalance = "look"
)

const notifySQL = `select pg_notify($1, $2)`

// RequestRebalance notifies all replicas that one came, left, or released partitions. They observe
// each other at once, and not only at their next check. A notification that fails is not reported.
func (s *Store) RequestRebalance(ctx context.Context) { s.notify(ctx, payloadRebalance) }

// notify sends a notification. An error is dropped, since polling finds what was missed.
func (s *Store) notify(ctx context.Context, payload string) {
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	_, _ = s.pool.Exec(ctx, notifySQL, notifyChannel, payload)
}
