// Package notify debounces notifications that a partition has new payments.
package notify

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"
)

// interval is the shortest time between two notifications of one process. NOTIFY takes a lock of
// the whole server at commit, so that commits that notify run one after another
// (https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/commands/async.c,
// PreCommit_Notify). So a process sends at most a hundred each second, and no trigger sends one for
// every create.
const interval = 10 * time.Millisecond

// Notifier notifies senders which partitions have new payments. An owner in this process is called
// at once. Other processes get a debounced notification.
//
// A notification may be lost. Polling finds the payments, too. Safe for concurrent use.
type Notifier struct {
	send func(ctx context.Context, payload string)
	// owners has the callback (*func()) of each partition that this process owns.
	owners sync.Map

	mu      sync.Mutex
	pending map[int32]struct{}
	signal  chan struct{}
	stop    context.CancelFunc
	done    chan struct{}
}

// New returns a notifier that sends payloads with send, one at a time. See Partitions for their
// form. The caller must Close it.
func New(send func(ctx context.Context, payload string)) *Notifier {
	ctx, stop := context.WithCancel(context.Background())
	n := &Notifier{
		send: send, pending: map[int32]struct{}{}, signal: make(chan struct{}, 1),
		stop: stop, done: make(chan struct{}),
	}
	go n.run(ctx)
	return n
}

// Created notes that a partition has a new payment. It does not wait.
func (n *Notifier) Created(partition int32) {
	if owner, ok := n.owners.Load(partition); ok {
		(*owner.(*func()))()
		return // The owner is in this process, so no other process needs to know.
	}
	n.mu.Lock()
	n.pending[partition] = struct{}{}
	n.mu.Unlock()
	select {
	case n.signal <- struct{}{}:
	default: // A notification is due already, and will name this partition, too.
	}
}

// Subscribe makes Created call the owner of a partition, in this process, instead of other
// processes. The callback must not wait. The function returned ends the subscription, unless a
// later one has replaced it.
func (n *Notifier) Subscribe(partition int32, created func()) (unsubscribe func()) {
	callback := &created
	n.owners.Store(partition, callback)
	return func() { n.owners.CompareAndDelete(partition, callback) }
}

// Close cancels the notification in progress and waits for it. Those that are due are not sent.
func (n *Notifier) Close() {
	n.stop()
	<-n.done
}

// run sends the first notification at once, and the following ones at most every interval.
func (n *Notifier) run(ctx context.Context) {
	defer close(n.done)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.signal:
		}
		n.send(ctx, n.takePending())
		pause.Reset(interval)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// takePending returns the pending partitions as a payload, such as "3,7", and empties them.
func (n *Notifier) takePending() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for p := range n.pending {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(p)))
	}
	clear(n.pending)
	return b.String()
}

// Partitions returns the partitions that a payload names. It ignores what is not a number.
func Partitions(payload string) []int32 {
	var partitions []int32
	for number := range strings.SplitSeq(payload, ",") {
		if i, err := strconv.ParseInt(number, 10, 32); err == nil {
			partitions = append(partitions, int32(i))
		}
	}
	return partitions
}
