package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client"
)

// TestRestore_Told: the whole database is deleted under load, and an older copy is restored. Every
// payment that a client was told is `sent`, with its POST or later, is there again, as it was.
// Those that were only told 202 after the copy, and were not sent yet, are gone: that is the
// control.
func TestRestore_Told(t *testing.T) {
	t.Parallel()
	const sentAtLeast, unsentAtLeast, afterAtLeast = 100, 30, 20
	i := install(t)
	service := i.launch(t, "serve")
	early := i.take(t, service.api, restoreEarly, "early")
	i.drained(t)
	end(t, service)
	restore := i.copyDatabase(t)

	api := i.launch(t, "api")
	senders := []*process{i.launch(t, "sender"), i.launch(t, "sender")}
	c := newClient(t, i.key, api.api)
	told := tellClients(t, c, 4)
	told.await(t, "clients are told of sent payments", func() bool { return len(told.sent) >= sentAtLeast })
	for _, p := range senders {
		p.kill()
	}
	var unsent []string
	eventually(t, "payments are taken and not sent", func() error {
		if unsent = i.idsWhere(t, `status = 'created'`); len(unsent) < unsentAtLeast {
			return errNotYet
		}
		return nil
	})
	restore()
	eventually(t, "payments are taken by the restored database", func() error {
		if i.count(t, `select count(*) from payments`) < len(early)+afterAtLeast {
			return errNotYet
		}
		return nil
	})
	told.stop()
	i.launch(t, "sender")
	i.drained(t)

	for id, position := range told.sent { // A take-over puts it back, each partition's its own.
		eventually(t, "payment "+id+" is there again", func() error {
			p, err := c.Get(t.Context(), id)
			if err != nil || p.Position == nil || *p.Position != position {
				return fmt.Errorf("it was said to be sent, at %v, and is %q, at %v (error %w)", position, p.Status,
					p.Position, err)
			}
			return nil
		})
	}
	gone := 0
	for _, id := range unsent {
		if _, err := c.Get(t.Context(), id); isNotFound(err) && told.created[id] {
			gone++
		}
	}
	if gone == 0 {
		t.Errorf("none of %d payments that were not sent is gone: nothing was tested", len(unsent))
	}
	if r := i.verify(t); !r.OK() || r.Records < int64(len(early)+len(told.sent)) {
		t.Errorf("want each payment in the topic once, and at least %d", len(early)+len(told.sent))
	}
	t.Logf("%d payments said to be sent, %d by their POST, are all there; %d of %d unsent ones are gone",
		len(told.sent), told.sentByPost, gone, len(unsent))
	if told.sentByPost == 0 || told.sentByPost == len(told.sent) {
		t.Errorf("%d of %d payments were said to be sent by their POST: one of two ways was not tested",
			told.sentByPost, len(told.sent))
	}
}

func isNotFound(err error) bool {
	p, ok := errors.AsType[*client.ProblemError](err)
	return ok && p.Code == "not_found"
}

// told is what clients were told of their payments.
type told struct {
	over    atomic.Bool
	workers sync.WaitGroup

	mu         sync.Mutex
	sent       map[string]client.Position // The payments that a response called sent.
	sentByPost int                        // Of these, in the response to the POST.
	created    map[string]bool            // Those that no response called more than created.
}

// tellClients has workers make payments until it is stopped. A third of these waits for the payment
// to be sent with the POST, a third with a GET, and a third does not wait. Errors are what the
// clients of a database that is being replaced get; a payment of which nothing was told is not
// judged.
func tellClients(t *testing.T, c *client.Client, workers int) *told {
	t.Helper()
	const wait = time.Second
	d := &told{sent: map[string]client.Position{}, created: map[string]bool{}}
	ctx := context.WithoutCancel(t.Context())
	for n := range workers {
		d.workers.Go(func() {
			for k := n; !d.over.Load(); k++ {
				withPost, withGet := k%3 == 0, k%3 == 1
				posted, err := c.CreateAndWait(ctx, newKey(), sample(fmt.Sprint(k%7)),
					map[bool]time.Duration{true: wait}[withPost])
				if err != nil {
					continue
				}
				d.note(posted.Payment, withPost)
				if withGet {
					if got, err := c.Wait(ctx, posted.ID, wait); err == nil {
						d.note(got, false)
					}
				}
			}
		})
	}
	t.Cleanup(d.stop)
	return d
}

func (d *told) note(p client.Payment, byPost bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !p.Sent() {
		d.created[p.ID] = true
		return
	}
	delete(d.created, p.ID)
	d.sent[p.ID] = *p.Position
	if byPost {
		d.sentByPost++
	}
}

func (d *told) await(t *testing.T, what string, enough func() bool) {
	t.Helper()
	eventually(t, what, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !enough() {
			return errNotYet
		}
		return nil
	})
}

func (d *told) stop() {
	d.over.Store(true)
	d.workers.Wait()
}
