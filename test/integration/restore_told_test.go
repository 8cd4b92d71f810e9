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

// TestRestore_Told replaces the database under load by an older copy. Every payment that a response
// called `sent`, to its POST or later, is there again with its position. Payments that only had a
// 202 after the copy and were not sent are lost. They are the control.
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
	seen := observeClients(t, c, 4)
	seen.await(t, "responses call payments sent", func() bool { return len(seen.sent) >= sentAtLeast })
	for _, p := range senders {
		p.kill()
	}
	var unsent []string
	eventually(t, "payments are taken and not sent", func() error {
		unsent = i.idsWhere(t, `status = 'created'`)
		if len(unsent) < unsentAtLeast {
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
	seen.stop()
	i.launch(t, "sender")
	i.drained(t)

	// The takeover of its partition puts each payment back.
	for id, position := range seen.sent {
		eventually(t, "payment "+id+" is there again", func() error {
			p, err := c.Get(t.Context(), id)
			if err != nil || p.Position == nil || *p.Position != position {
				return fmt.Errorf("got status %q, position %v, error %w, want %v", p.Status, p.Position, err, position)
			}
			return nil
		})
	}
	gone := 0
	for _, id := range unsent {
		if _, err := c.Get(t.Context(), id); isNotFound(err) && seen.created[id] {
			gone++
		}
	}
	if gone == 0 {
		t.Errorf("got none of %d unsent payments lost, want some: nothing was tested", len(unsent))
	}
	if r := i.verify(t); !r.OK() || r.Records < int64(len(early)+len(seen.sent)) {
		t.Errorf("got %+v, want each payment in the topic once, and at least %d", r, len(early)+len(seen.sent))
	}
	t.Logf("%d payments that a response called sent, %d to the POST, are there; %d of %d unsent ones are lost",
		len(seen.sent), seen.sentByPost, gone, len(unsent))
	if seen.sentByPost == 0 || seen.sentByPost == len(seen.sent) {
		t.Errorf("got %d of %d payments called sent by the response to the POST, want some and not all",
			seen.sentByPost, len(seen.sent))
	}
}

func isNotFound(err error) bool {
	p, ok := errors.AsType[*client.ProblemError](err)
	return ok && p.Code == "not_found"
}

// outcomes records what the responses to clients said about their payments.
type outcomes struct {
	over    atomic.Bool
	workers sync.WaitGroup

	mu sync.Mutex
	// sent has the payments that a response called sent.
	sent map[string]client.Position
	// sentByPost counts those of sent that the response to the POST called sent.
	sentByPost int
	// created has the payments that all responses called created.
	created map[string]bool
}

// observeClients creates payments with several workers until it is stopped. A third of the requests
// waits for `sent` with the POST, a third with a GET, and a third does not wait. Errors are
// expected while the database is replaced. A payment without a response is not checked.
func observeClients(t *testing.T, c *client.Client, workers int) *outcomes {
	t.Helper()
	const wait = time.Second
	d := &outcomes{sent: map[string]client.Position{}, created: map[string]bool{}}
	ctx := context.WithoutCancel(t.Context())
	for n := range workers {
		d.workers.Go(func() {
			for k := n; !d.over.Load(); k++ {
				withPost, withGet := k%3 == 0, k%3 == 1
				var hold time.Duration
				if withPost {
					hold = wait
				}
				posted, err := c.CreateAndWait(ctx, newKey(), sample(fmt.Sprint(k%7)), hold)
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

func (d *outcomes) note(p client.Payment, byPost bool) {
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

func (d *outcomes) await(t *testing.T, what string, enough func() bool) {
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

func (d *outcomes) stop() {
	d.over.Store(true)
	d.workers.Wait()
}
