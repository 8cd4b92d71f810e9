package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/loadtest"
)

const (
	// inFlightMax bounds the payments under way. With the standby away each request takes 5 s, so
	// that the load falls below its rate then; 1,500 keep 300 requests a second going.
	inFlightMax = 1500
	// attemptTimeout is longer than the 5 s after which the service responds with 503.
	attemptTimeout = 7 * time.Second
	// retryFor lets a create see two such responses.
	retryFor = 13 * time.Second
	// holdersMax is how many account holders there are: few, so that all are stored before a fault.
	// Otherwise creates wait for the commit of a party, and the payment itself is not inserted.
	holdersMax = 60
	// warmUpMin payments name most of them.
	warmUpMin = 300
	// settleTimeout bounds the retries after a failover, probeTimeout the queries of the verdict.
	settleTimeout = 90 * time.Second
	probeTimeout  = 3 * time.Minute
	probeWorkers  = 32
)

// load is the clients of one failover. Each payment has a key and content that follow from its
// number, so that it can be sent again at any time.
type load struct {
	*recorder
	name   string
	seed   uint64
	client *client.Client
	// conflicts has some clients use a key again with other content. After the loss of a payment
	// that would store the other content, which contradicts the topic, and halt the partition.
	conflicts bool

	group sync.WaitGroup // Payments under way.

	keysMu sync.Mutex
	keys   int32 // Used so far.
}

func newLoad(name string, servers []string, byHost map[string]int8, apiKey string, conflicts bool) (*load, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	l := &load{recorder: newRecorder(byHost), name: name, seed: h.Sum64(), conflicts: conflicts}
	client, err := client.New(client.Config{
		Servers: servers, APIKey: apiKey, HTTPClient: &http.Client{Transport: l.recorder},
		AttemptTimeout: attemptTimeout, RetryFor: retryFor,
		BackoffFirst: 50 * time.Millisecond, BackoffMax: 500 * time.Millisecond,
	})
	l.client = client
	return l, err
}

func (l *load) close() { l.next.CloseIdleConnections() }

func (l *load) key(n int32) string { return fmt.Sprintf("%s-%d", l.name, n) }

func (l *load) content(n int32) client.Request {
	r := rand.New(rand.NewPCG(l.seed, uint64(n)))
	return loadtest.SampleOf(r, holdersMax)
}

// run starts payments at a rate until stop is closed, and waits for those under way. A payment
// that finds inFlightMax under way is not made.
func (l *load) run(ctx context.Context, stop <-chan struct{}, perSecond int) {
	slots := make(chan struct{}, inFlightMax)
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-stop:
		case <-tick.C:
			select {
			case slots <- struct{}{}:
				l.group.Go(func() {
					defer func() { <-slots }()
					l.pay(ctx, l.newKey())
				})
			default:
			}
			continue
		}
		l.group.Wait()
		return
	}
}

func (l *load) newKey() int32 {
	l.keysMu.Lock()
	defer l.keysMu.Unlock()
	l.keys++
	return l.keys - 1
}

func (l *load) keysUsed() int32 {
	l.keysMu.Lock()
	defer l.keysMu.Unlock()
	return l.keys
}

// pay makes a payment as a customer does: it creates it, with retries, and then wants to know what
// became of it. What the service responds is recorded; errors need no handling here.
func (l *load) pay(ctx context.Context, n int32) {
	if n%4 == 0 { // Some want to know at once that it is sent.
		_, _ = l.client.CreateAndWait(withCall(ctx, call{key: n, request: requestCreate}), l.key(n), l.content(n),
			time.Second)
	} else {
		_ = l.create(ctx, n)
	}
	id := l.known(n)
	switch {
	case n%5 == 0:
		_ = l.create(ctx, n) // A replay.
	case n%5 == 1 && id != uuid.Nil:
		_, _ = l.client.Wait(withCall(ctx, call{key: n, request: requestByID}), id.String(), time.Second)
	case n%5 == 2 && id != uuid.Nil && l.conflicts:
		other := l.content(n)
		other.Amount++
		_, _ = l.client.Create(withCall(ctx, call{key: n, request: requestConflict}), l.key(n), other)
	case n%5 == 3:
		_, _ = l.client.FindByKey(withCall(ctx, call{key: unusedKey, request: requestByKey}), l.key(n)+"-unused")
	default:
		_, _ = l.client.FindByKey(withCall(ctx, call{key: n, request: requestByKey}), l.key(n))
	}
	earlier := rand.Int32N(n + 1) // Clients also query payments of earlier.
	if id := l.known(earlier); id != uuid.Nil {
		_, _ = l.client.Get(withCall(ctx, call{key: earlier, request: requestByID}), id.String())
	}
}

func (l *load) create(ctx context.Context, n int32) error {
	_, err := l.client.Create(withCall(ctx, call{key: n, request: requestCreate}), l.key(n), l.content(n))
	return err
}

// settle sends every payment whose outcome is unknown again, with the same key, until each has a
// response. It returns an error if some have none within settleTimeout.
func (l *load) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var open []int32
	var last error
	for {
		open = open[:0]
		for n := range l.keysUsed() {
			if l.known(n) == uuid.Nil {
				open = append(open, n)
			}
		}
		if len(open) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d payments have no response %s after the failover: %w", len(open), settleTimeout, last)
		}
		if err := inParallel(open, func(n int32) error { return l.create(ctx, n) }); err != nil && ctx.Err() == nil {
			last = err
		}
	}
}

// probe queries each payment that a client knows, by id and by key. The responses are in the
// recorder, a 404 among them. It returns an error if there is no response, since then nothing can
// be said about that payment.
func (l *load) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var known []int32
	for n := range l.keysUsed() {
		if l.known(n) != uuid.Nil {
			known = append(known, n)
		}
	}
	return inParallel(known, func(n int32) error {
		_, err := l.client.Get(withCall(ctx, call{n, requestByID, true}), l.known(n).String())
		if hasResult(err) {
			_, err = l.client.FindByKey(withCall(ctx, call{n, requestByKey, true}), l.key(n))
		}
		if !hasResult(err) {
			return fmt.Errorf("query %s: %w", l.key(n), err)
		}
		return nil
	})
}

// hasResult reports whether a query has a result: the payment, or that there is none.
func hasResult(err error) bool {
	var problem *client.ProblemError
	return err == nil || errors.As(err, &problem) && problem.Status == http.StatusNotFound
}

// inParallel calls do for each number, with probeWorkers at once, and returns the first error.
func inParallel(numbers []int32, do func(int32) error) error {
	next := make(chan int32)
	errs := make(chan error, len(numbers))
	var group sync.WaitGroup
	for range probeWorkers {
		group.Go(func() {
			for n := range next {
				if err := do(n); err != nil {
					errs <- err
				}
			}
		})
	}
	for _, n := range numbers {
		next <- n
	}
	close(next)
	group.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
