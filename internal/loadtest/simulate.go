package loadtest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paylatch/paylatch/client"
)

const (
	// SimulateMax bounds a simulation: its table is for people. More is what Load is for.
	SimulateMax = 1000
	// simulateWait is how long a payment may take to be sent, in any installation that is in order.
	simulateWait = 30 * time.Second
	// simulateAtOnce is how many payments are under way together.
	simulateAtOnce = 8
)

// Simulate makes n payments, follows each until it is sent, and prints where it went. It is an error when one is
// not sent in time.
func Simulate(ctx context.Context, c *client.Client, n int, out io.Writer) error {
	return SimulateWithin(ctx, c, n, simulateWait, out)
}

// SimulateWithin is Simulate with a wait of one's own.
func SimulateWithin(ctx context.Context, c *client.Client, n int, wait time.Duration, out io.Writer) error {
	if n < 1 || n > SimulateMax {
		return fmt.Errorf("%d payments: 1 to %d can be simulated", n, SimulateMax)
	}
	start := time.Now()
	walks := walkAll(ctx, c, n, wait)
	return printWalks(out, walks, time.Since(start))
}

// walk is one payment's way, as its client sees it.
type walk struct {
	request  client.Request
	payment  client.Payment
	accepted time.Duration // until the 202
	sent     time.Duration // until an answer told that it is sent
	err      error
}

// walkAll returns when all walks have ended, also when ctx is over: then the others end with its error.
func walkAll(ctx context.Context, c *client.Client, n int, wait time.Duration) []walk {
	walks := make([]walk, n)
	var wg sync.WaitGroup
	turns := make(chan struct{}, simulateAtOnce)
	for i := range walks {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			walks[i] = walkOne(ctx, c, wait)
		})
	}
	wg.Wait()
	return walks
}

func walkOne(ctx context.Context, c *client.Client, wait time.Duration) walk {
	w := walk{request: Sample(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))}
	key, err := client.NewKey()
	if err != nil {
		w.err = err
		return w
	}
	start := time.Now()
	created, err := c.Create(ctx, key, w.request)
	if err != nil {
		w.err = err
		return w
	}
	w.payment, w.accepted = created.Payment, created.Took
	p, err := c.Wait(ctx, created.ID, wait)
	if err != nil {
		w.err = err
		return w
	}
	w.payment = p
	if !p.Sent() {
		w.err = fmt.Errorf("payment %s: not sent within %v", p.ID, wait)
		return w
	}
	w.sent = time.Since(start)
	return w
}

func printWalks(out io.Writer, walks []walk, took time.Duration) error {
	t := newTable("payment", ">amount", "status", ">202 ms", ">sent ms", ">partition:offset")
	var faults walkFaults
	var accepted, sent latencies
	for _, w := range walks {
		t.add(w.cells()...)
		if w.err != nil {
			faults = append(faults, w.err)
		}
		if w.accepted > 0 {
			accepted.add(w.accepted)
		}
		if w.sent > 0 {
			sent.add(w.sent)
		}
	}
	if err := t.write(out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d of %d payments sent in %s ms%s%s\n", sent.count, len(walks), milliseconds(took),
		spread("202", accepted.summary()), spread("sent", sent.summary()))
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d of %d payments were not seen sent:\n%w", len(faults), len(walks), faults)
	}
	return nil
}

func (w walk) cells() []string {
	p := w.payment
	id, status, accepted, sent, position := p.ID, p.Status, "-", "-", "-"
	if p.ID == "" {
		id, status = "-", "failed"
	}
	if w.accepted > 0 {
		accepted = milliseconds(w.accepted)
	}
	if w.sent > 0 {
		sent = milliseconds(w.sent)
	}
	if p.Position != nil {
		position = strconv.Itoa(int(p.Position.Partition)) + ":" + strconv.FormatInt(p.Position.Offset, 10)
	}
	return []string{id, moneyText(w.request.Amount, w.request.Currency), status, accepted, sent, position}
}

// walkFaults are the walks that did not end well, kept so that a caller can ask whether an outcome is unknown.
type walkFaults []error

// Error tells the first few: a server that is away says much the same to all.
func (f walkFaults) Error() string {
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

func (f walkFaults) Unwrap() []error { return f }

func spread(name string, s Latency) string {
	if s.Count == 0 {
		return ""
	}
	return fmt.Sprintf(" · %s: p50 %s, max %s ms", name, milliseconds(s.P50), milliseconds(s.Max))
}
