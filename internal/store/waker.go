package store

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// wakeEvery is the shortest time between two notifications of one process. NOTIFY takes a lock
	// on the whole cluster at commit (facts P8), so it is sent from here, a hundred times a second
	// at most, and not by a trigger at every create.
	wakeEvery = 10 * time.Millisecond
	// wakeTimeout bounds one notification; when it fails, the senders' polling finds the payments.
	wakeTimeout = 2 * time.Second
	// wakeChannel is PostgreSQL's channel; the payload names the partitions: "3,7".
	wakeChannel = "paylatch_created"
	// wakeLook is the payload that asks replicas to look at each other.
	wakeLook = "look"
)

// waker tells senders which partitions have new payments: an owner in this process at once, those
// in others with a debounce. It is courtesy: polling is the truth.
type waker struct {
	send func(ctx context.Context, payload string)
	// Of the partitions that this process owns: *func().
	here sync.Map

	mu      sync.Mutex
	pending map[int32]struct{}
	signal  chan struct{}
	stop    context.CancelFunc
	done    chan struct{}
}

func newWaker(send func(context.Context, string)) *waker {
	ctx, stop := context.WithCancel(context.Background())
	w := &waker{send: send, pending: map[int32]struct{}{}, signal: make(chan struct{}, 1), stop: stop,
		done: make(chan struct{})}
	go w.run(ctx)
	return w
}

// wake notes that partition has a new payment, and returns at once.
func (w *waker) wake(partition int32) {
	if owner, ok := w.here.Load(partition); ok {
		(*owner.(*func()))()
		return // Nobody else needs to know.
	}
	w.mu.Lock()
	w.pending[partition] = struct{}{}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default: // A notification is due already and will name this partition, too.
	}
}

// close sends nothing more and waits for what is under way.
func (w *waker) close() {
	w.stop()
	<-w.done
}

// run sends at once when it was quiet before, and then at most every wakeEvery.
func (w *waker) run(ctx context.Context) {
	defer close(w.done)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.signal:
		}
		w.send(ctx, w.take())
		pause.Reset(wakeEvery)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// take empties what is pending into a payload.
func (w *waker) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for p := range w.pending {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(p)))
	}
	clear(w.pending)
	return b.String()
}

const notifyCreated = `select pg_notify($1, $2)`

// AskToLook tells all replicas to look at each other now and not at their next tick: one came,
// left, or gave partitions back.
func (s *Store) AskToLook(ctx context.Context) { s.notify(ctx, wakeLook) }

func (s *Store) notify(ctx context.Context, payload string) {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	// Polling finds what a lost notification would have told.
	_, _ = s.pool.Exec(ctx, notifyCreated, wakeChannel, payload)
}
