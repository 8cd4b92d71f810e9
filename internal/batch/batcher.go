// Package batch collects concurrent requests of one kind into batches, so that they share a
// statement and a commit.
package batch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

const (
	// slowAfter is how long a batch runs before a second one may start next to it. It is several
	// times what a full batch takes. A batch that takes longer waits for a row lock of another
	// replica, or for a connection that has gone silent.
	slowAfter = 50 * time.Millisecond
	// RunningMax bounds the batches that run at the same time. One at a time costs least, since
	// all requests that arrive while it runs share the next one.
	RunningMax = 2
)

// Errors of requests that were never started. Nothing was done.
var (
	ErrFull   = fmt.Errorf("%w: too many requests wait", payment.ErrUnavailable)
	ErrClosed = fmt.Errorf("%w: the store is closed", payment.ErrUnavailable)
)

// Process handles one batch and returns a response for each request, in their order. It bounds its
// own steps; the context never ends.
//
// A payment.ErrUnavailable means that the outcome of all requests is unknown. Any other error means
// that nothing was done.
type Process[Request, Response any] func(ctx context.Context, batch []Request) ([]Response, error)

// Batcher runs concurrent requests in batches. A batch starts as soon as the one before is done,
// never on a timer, so a single request waits for no other. Requests that arrive in between form
// the next batch. Only while a batch is slow does a second one run next to it.
//
// Tenants take turns, so that a tenant with many requests delays only itself. Safe for concurrent
// use.
type Batcher[Request, Response any] struct {
	process Process[Request, Response]
	// sizeMax bounds the requests of one batch.
	sizeMax int
	// pendingMax bounds the requests that wait or are being processed. More are refused at once.
	pendingMax int

	mu sync.Mutex
	// queues holds the waiting requests by tenant. No queue is empty.
	queues map[int32]*tenantQueue[Request, Response]
	// rotation holds the same queues. The one whose turn is next is the first.
	rotation []*tenantQueue[Request, Response]
	// pending counts the requests that wait or are being processed.
	pending int
	// running counts the goroutines that process batches.
	running int
	// started counts all batches so far.
	started int
	// watched is true while a timer watches for a slow batch.
	watched bool
	closed  bool
	batches sync.WaitGroup
}

// tenantQueue holds the waiting requests of one tenant, in order of arrival.
type tenantQueue[Request, Response any] struct {
	waiting []*pendingRequest[Request, Response]
}

// pendingRequest is a request and, once done is closed, its response.
type pendingRequest[Request, Response any] struct {
	tenant   int32
	request  Request
	done     chan struct{}
	response Response
	err      error
}

// New returns a batcher of batches of at most sizeMax requests. At most pendingMax requests wait or
// are being processed.
func New[Request, Response any](sizeMax, pendingMax int,
	process Process[Request, Response],
) *Batcher[Request, Response] {
	return &Batcher[Request, Response]{
		process: process, sizeMax: sizeMax, pendingMax: pendingMax,
		queues: map[int32]*tenantQueue[Request, Response]{},
	}
}

// Do processes the request in some batch and returns its response.
//
// If ctx ends first, Do returns at once. A request that no batch has taken is then withdrawn; a
// batch that has taken it goes on. ErrFull and ErrClosed mean that the request was not started.
func (b *Batcher[Request, Response]) Do(ctx context.Context, tenant int32,
	request Request,
) (response Response, err error) {
	r := &pendingRequest[Request, Response]{tenant: tenant, request: request, done: make(chan struct{})}
	if err := b.enqueue(r); err != nil {
		return response, err
	}
	select {
	case <-r.done:
		return r.response, r.err
	case <-ctx.Done():
		b.withdraw(r)
		if errors.Is(ctx.Err(), context.Canceled) { // The caller has gone.
			return response, ctx.Err()
		}
		return response, fmt.Errorf("%w: %w", payment.ErrUnavailable, ctx.Err())
	}
}

// Pending returns how many requests wait or are being processed.
func (b *Batcher[Request, Response]) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pending
}

// Started returns how many batches have been started so far.
func (b *Batcher[Request, Response]) Started() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.started
}

// Close refuses further requests and waits for the pending ones.
func (b *Batcher[Request, Response]) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.batches.Wait()
}

// enqueue adds a request to its tenant's queue, and starts a batch if one may start.
func (b *Batcher[Request, Response]) enqueue(r *pendingRequest[Request, Response]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return ErrClosed
	case b.pending == b.pendingMax:
		return ErrFull
	}
	b.pending++
	q := b.queues[r.tenant]
	if q == nil {
		q = &tenantQueue[Request, Response]{}
		b.queues[r.tenant] = q
		b.rotation = append(b.rotation, q)
	}
	q.waiting = append(q.waiting, r)
	switch {
	case b.running == 0:
		b.start()
	case b.running < RunningMax && !b.watched:
		b.watch()
	}
	return nil
}

// start starts a goroutine that processes batches. mu must be held.
func (b *Batcher[Request, Response]) start() {
	b.running++
	b.batches.Go(b.run)
}

// watch starts a second goroutine after slowAfter if no batch has started since and requests wait.
// mu must be held.
func (b *Batcher[Request, Response]) watch() {
	b.watched = true
	started := b.started
	time.AfterFunc(slowAfter, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.watched = false
		switch {
		case len(b.rotation) == 0 || b.running == RunningMax:
		case b.started == started:
			b.start()
		default:
			b.watch()
		}
	})
}

// withdraw removes a request that no batch has taken.
func (b *Batcher[Request, Response]) withdraw(r *pendingRequest[Request, Response]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[r.tenant]
	if q == nil {
		return
	}
	i := slices.Index(q.waiting, r)
	if i < 0 {
		return
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	b.pending--
	if len(q.waiting) == 0 {
		at := slices.Index(b.rotation, q)
		b.rotation = slices.Delete(b.rotation, at, at+1)
		delete(b.queues, r.tenant)
	}
}

// run processes batches until no request waits.
//
// Before each batch it yields to goroutines that are ready to run. That is free when there are
// none. On a busy machine they are callers whose responses or requests have just arrived. A batch
// that started before them would be smaller, and the cost is per batch, not per request.
func (b *Batcher[Request, Response]) run() {
	var taken []*pendingRequest[Request, Response]
	for {
		runtime.Gosched()
		taken = b.take(taken)
		if len(taken) == 0 {
			return
		}
		b.respond(context.Background(), taken)
	}
}

// take ends the batch of the requests in done, and takes the requests of the next one: one of each
// tenant in turn, and again. If there are none, the caller must end.
func (b *Batcher[Request, Response]) take(
	done []*pendingRequest[Request, Response],
) []*pendingRequest[Request, Response] {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending -= len(done)
	taken := done[:0]
	for len(taken) < b.sizeMax && len(b.rotation) > 0 {
		q := b.rotation[0]
		r := q.waiting[0]
		taken = append(taken, r)
		b.rotation, q.waiting = b.rotation[1:], q.waiting[1:]
		if len(q.waiting) > 0 {
			b.rotation = append(b.rotation, q)
		} else {
			delete(b.queues, r.tenant)
		}
	}
	if len(taken) == 0 {
		b.running--
	} else {
		b.started++
	}
	return taken
}

// respond processes a batch and hands out the responses.
//
// A batch that is refused has changed nothing. It is processed again in halves, down to the request
// at fault, so that no other request fails because of it.
func (b *Batcher[Request, Response]) respond(ctx context.Context, batch []*pendingRequest[Request, Response]) {
	requests := make([]Request, len(batch))
	for i, r := range batch {
		requests[i] = r.request
	}
	responses, err := b.guard(ctx, requests)
	refused := err != nil && !errors.Is(err, payment.ErrUnavailable)
	if refused && len(batch) > 1 {
		b.respond(ctx, batch[:len(batch)/2])
		b.respond(ctx, batch[len(batch)/2:])
		return
	}
	for i, r := range batch {
		r.err = err
		if err == nil {
			r.response = responses[i]
		}
		close(r.done)
	}
}

// guard processes a batch, and turns a panic into an error: it fails the request at fault and does
// not end the process.
func (b *Batcher[Request, Response]) guard(ctx context.Context, requests []Request) (responses []Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return b.process(ctx, requests)
}
