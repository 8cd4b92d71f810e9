package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/loadtest"
)

const (
	// accountsMax is how many sender accounts there are: few, so that most payments follow and
	// precede others of their account.
	accountsMax = 60
	// workersMax bounds the concurrent requests. Those to a stopped replica wait for
	// attemptTimeout.
	workersMax     = 128
	attemptTimeout = time.Second
	retryFor       = 4 * time.Second
)

// payer sends payments at a steady pace and keeps the journal.
type payer struct {
	*client.Client
	seed  uint64
	began time.Time

	mu       sync.Mutex
	journal  []entry
	replays  int      // Responses that are replays.
	unknown  int      // Requests that ended without a response.
	refusals []string // Responses that no valid payment may have.
}

func newPayer(servers []string, key string, seed uint64, retryFor time.Duration) (*payer, error) {
	c, err := client.New(client.Config{
		Servers: servers, APIKey: key, Connections: workersMax,
		AttemptTimeout: attemptTimeout, RetryFor: retryFor,
		BackoffFirst: 50 * time.Millisecond, BackoffMax: 500 * time.Millisecond,
	})
	return &payer{Client: c, seed: seed, began: time.Now()}, err
}

// key returns the idempotency key of a request. Key and content follow from the number alone, so
// that a request can be sent again at the end.
func (c *payer) key(n int) string { return fmt.Sprintf("chaos-%d-%d", c.seed, n) }

func (c *payer) content(n int) client.Request {
	r := rand.New(rand.NewPCG(c.seed, uint64(n)))
	q := loadtest.Sample(r)
	q.Sender = client.Account{Type: "checking", Number: fmt.Sprintf("%09d", c.account(n))}
	return q
}

func (c *payer) account(n int) int32 {
	return int32(rand.New(rand.NewPCG(c.seed+1, uint64(n))).IntN(accountsMax))
}

// run sends payments at a rate until ctx ends, and then waits for the requests under way. While all
// workers wait for responses it sends none, and it does not catch up.
func (c *payer) run(ctx context.Context, perSecond int) {
	numbers := make(chan int)
	var group sync.WaitGroup
	for range workersMax {
		group.Go(func() {
			for n := range numbers {
				c.send(n)
			}
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			n := c.enter()
			select {
			case numbers <- n:
			case <-ctx.Done():
			}
		}
	}
	close(numbers)
	group.Wait()
}

// enter begins a journal entry.
func (c *payer) enter() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = len(c.journal)
	c.journal = append(c.journal, entry{account: c.account(n)})
	return n
}

// send sends a payment until there is a response, or the time is up.
func (c *payer) send(n int) {
	sent := time.Since(c.began)
	created, err := c.Create(background, c.key(n), c.content(n)) // Bounded by retryFor.
	received := time.Since(c.began)
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.journal[n]
	if e.sent == 0 {
		e.sent = sent
	}
	if err != nil {
		c.unknown++
		c.refused(n, err)
		return
	}
	id, err := uuid.Parse(created.ID)
	if err != nil {
		c.refusals = append(c.refusals, fmt.Sprintf("request %d: %v", n, err))
		return
	}
	e.id, e.received = id, received
	if created.Replayed {
		c.replays++
	}
}

// refused notes a response that no valid payment may have. The service may be unavailable, or
// overloaded while its database is down, but it may not refuse the payment.
func (c *payer) refused(n int, err error) {
	var problem *client.ProblemError
	if !errors.As(err, &problem) || len(c.refusals) >= examplesMax {
		return
	}
	if problem.Status < http.StatusInternalServerError && problem.Status != http.StatusTooManyRequests {
		c.refusals = append(c.refusals, fmt.Sprintf("request %d: %v", n, err))
	}
}

// open lists the requests that have no response yet.
func (c *payer) open() (open []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, e := range c.journal {
		if e.id == uuid.Nil {
			open = append(open, n)
		}
	}
	return open
}

// settle sends the requests without a response again, with the same keys, until each has one or d
// has passed. It returns how many are left.
func (c *payer) settle(d time.Duration) (left int) {
	for end := time.Now().Add(d); time.Now().Before(end) && len(c.open()) > 0; {
		numbers := make(chan int)
		var group sync.WaitGroup
		for range workersMax / 4 {
			group.Go(func() {
				for n := range numbers {
					c.send(n)
				}
			})
		}
		for _, n := range c.open() {
			if time.Now().After(end) {
				break
			}
			numbers <- n
		}
		close(numbers)
		group.Wait()
	}
	return len(c.open())
}
