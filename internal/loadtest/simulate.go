package loadtest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/paylatch/paylatch/client"
)

const (
	// SimulateMax bounds a simulation, so that its table can be read. Run makes more payments.
	SimulateMax = 1000
	// simulateWait is longer than a payment takes to be sent in an installation that works.
	simulateWait = 30 * time.Second
	// simulateInFlight bounds the payments in flight.
	simulateInFlight = 8
)

// Simulate makes n payments, waits until each is sent, and prints a table with their positions. It
// returns an error if one is not sent in time.
func Simulate(ctx context.Context, c *client.Client, n int, out io.Writer) error {
	return SimulateWithin(ctx, c, n, simulateWait, out)
}

// SimulateWithin is Simulate with another time for each payment to be sent.
func SimulateWithin(ctx context.Context, c *client.Client, n int, wait time.Duration, out io.Writer) error {
	if n < 1 || n > SimulateMax {
		return fmt.Errorf("%d payments: 1 to %d are allowed", n, SimulateMax)
	}
	start := time.Now()
	payments := simulateAll(ctx, c, n, wait)
	return printSimulated(out, payments, time.Since(start))
}

// simulated is one payment of a simulation.
type simulated struct {
	request client.Request
	payment client.Payment
	// created is the time until the 202.
	created time.Duration
	// sent is the time until a response with the status sent.
	sent time.Duration
	err  error
}

// simulateAll returns when all payments have ended. If ctx ends, those left end with its error.
func simulateAll(ctx context.Context, c *client.Client, n int, wait time.Duration) []simulated {
	payments := make([]simulated, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, simulateInFlight)
	for i := range payments {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			payments[i] = simulateOne(ctx, c, wait)
		})
	}
	wg.Wait()
	return payments
}

func simulateOne(ctx context.Context, c *client.Client, wait time.Duration) simulated {
	s := simulated{request: Sample(newRandom())}
	key, err := client.NewKey()
	if err != nil {
		s.err = err
		return s
	}
	start := time.Now()
	created, err := c.Create(ctx, key, s.request)
	if err != nil {
		s.err = err
		return s
	}
	s.payment, s.created = created.Payment, created.Took
	p, err := c.Wait(ctx, created.ID, wait)
	if err != nil {
		s.err = err
		return s
	}
	s.payment = p
	if !p.Sent() {
		s.err = fmt.Errorf("payment %s: not sent within %v", p.ID, wait)
		return s
	}
	s.sent = time.Since(start)
	return s
}

func printSimulated(out io.Writer, payments []simulated, took time.Duration) error {
	t := newTable("payment", ">amount", "status", ">202 ms", ">sent ms", ">partition:offset")
	var faults simulateError
	var created, sent latencies
	for _, p := range payments {
		t.add(p.cells()...)
		if p.err != nil {
			faults = append(faults, p.err)
		}
		if p.created > 0 {
			created.add(p.created)
		}
		if p.sent > 0 {
			sent.add(p.sent)
		}
	}
	if err := t.write(out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d of %d payments sent in %s ms%s%s\n", sent.count, len(payments), milliseconds(took),
		spread("202", created.summary()), spread("sent", sent.summary()))
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d of %d payments failed or were not sent in time:\n%w", len(faults), len(payments), faults)
	}
	return nil
}

func (s simulated) cells() []string {
	p := s.payment
	id, status, created, sent, position := p.ID, p.Status, "-", "-", "-"
	if p.ID == "" {
		id, status = "-", "failed"
	}
	if s.created > 0 {
		created = milliseconds(s.created)
	}
	if s.sent > 0 {
		sent = milliseconds(s.sent)
	}
	if p.Position != nil {
		position = fmt.Sprintf("%d:%d", p.Position.Partition, p.Position.Offset)
	}
	return []string{id, moneyText(s.request.Amount, s.request.Currency), status, created, sent, position}
}

// simulateError has the errors of a simulation. It wraps them: an outcome may be unknown.
type simulateError []error

// Error returns the first few: if a server is down, all are alike.
func (f simulateError) Error() string {
	const shown = 5
	var lines []string
	for _, err := range f[:min(len(f), shown)] {
		lines = append(lines, err.Error())
	}
	if len(f) > shown {
		lines = append(lines, fmt.Sprintf("and %d more", len(f)-shown))
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns all errors.
func (f simulateError) Unwrap() []error { return f }

func spread(name string, s Latency) string {
	if s.Count == 0 {
		return ""
	}
	return fmt.Sprintf(" · %s: p50 %s, max %s ms", name, milliseconds(s.P50), milliseconds(s.Max))
}
