//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// order describes what a generator sends.
type order struct {
	Address     string
	APIKey      string
	Connections int
	For         time.Duration // How long requests are sent; 0 if Count limits them.
	Count       int64         // How many requests are sent; 0 if For limits them.
	// Rate is in requests a second, evenly spaced and independent of the responses (an open model).
	// If it is 0, each connection sends when it has its response (a closed model).
	Rate       float64
	Creates    int   // Of Creates + Reads requests, this many are creates.
	Reads      int   // Of Creates + Reads requests, this many read a random stored payment.
	Stored     int64 // How many payments are stored.
	Mixed      bool  // The ids of the stored payments are those of mixedID.
	RandomKeys bool  // The creates have random keys, UUIDv4.
	Stamped    bool  // The reference of a payment is when its request should be sent, in nanoseconds.
	Replays    bool  // The creates repeat a few thousand keys.
	Refusals   bool  // Responses 429 are expected and counted.
}

// answerMax is how long the last responses may take. A slower server does not sustain the rate.
const answerMax = 30 * time.Second

// generator is one thread that serves all connections by epoll: it shares the machine with the
// server, so it must cost as little as can be. Each connection has at most one request under way.
type generator struct {
	order
	requests  *requests
	epoll     int
	timer     int // Wakes for the next request that is due.
	peers     []peer
	idle      []int32     // Connections without a request, for the open model.
	due       []time.Time // Requests that found no connection, by when they should have been sent.
	began     time.Time
	until     time.Time
	sent      int64
	done      int64
	refused   int64
	all       *hdrhistogram.Histogram
	create    *hdrhistogram.Histogram
	read      *hdrhistogram.Histogram
	lastReply time.Time
}

// peer is one connection.
type peer struct {
	fd     int
	at     time.Time // When its request should have been sent.
	create bool
	busy   bool
	reply  reply
}

// histogram is of µs up to a minute, three digits.
func histogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, time.Minute.Microseconds(), 3) }

// generate plays the role: it sends what is ordered, and responds with the result.
func generate(_ context.Context, j job, report func(any) error) error {
	g := &generator{order: j.Order, all: histogram(), create: histogram(), read: histogram()}
	g.requests = newRequests(g.APIKey, g.Stored, g.Stamped, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	g.requests.replays, g.requests.mixed, g.requests.v4 = g.Replays, g.Mixed, g.RandomKeys
	if err := g.open(); err != nil {
		return err
	}
	cpu := ownCPU()
	if err := g.run(); err != nil {
		return err
	}
	return report(result{
		Done: g.done, Seconds: g.lastReply.Sub(g.began).Seconds(), Refused: g.refused, ClientCPU: ownCPU() - cpu,
		All: percentiles(g.all), Create: percentiles(g.create), Read: percentiles(g.read),
	})
}

func percentiles(h *hdrhistogram.Histogram) latency {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return latency{P50: at(50), P90: at(90), P95: at(95), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
}

// open prepares the waiting.
func (g *generator) open() (err error) {
	g.epoll, err = unix.EpollCreate1(0)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	g.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	const timer = -1
	if err := g.watch(g.timer, timer); err != nil {
		return err
	}
	g.peers = make([]peer, 0, g.Connections)
	return nil
}

// connection returns an idle connection; it makes one where none is idle and more may be made. One
// that was never used would be cut off by the server after some seconds.
func (g *generator) connection() (int32, error) {
	if last := len(g.idle) - 1; last >= 0 {
		n := g.idle[last]
		g.idle = g.idle[:last]
		return n, nil
	}
	fd, err := connect(g.Address)
	if err != nil {
		return 0, err
	}
	n := int32(len(g.peers))
	g.peers = append(g.peers, peer{fd: fd})
	return n, g.watch(fd, n)
}

// watch makes epoll report when fd can be read; what identifies it.
func (g *generator) watch(fd int, what int32) error {
	return unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: what})
}

// run sends and reads until each request has its response.
func (g *generator) run() error {
	g.began = time.Now()
	g.until = g.began.Add(g.For)
	if g.Count > 0 {
		g.until = g.began.Add(time.Hour)
	}
	if g.Rate == 0 {
		for range g.Connections {
			if err := g.send(time.Now()); err != nil {
				return err
			}
		}
	}
	events := make([]unix.EpollEvent, g.Connections+1)
	for {
		if err := g.sendDue(); err != nil {
			return err
		}
		if len(g.idle) == len(g.peers) && g.over(time.Now()) {
			return nil
		}
		n, err := unix.EpollWait(g.epoll, events, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		if time.Since(g.until) > answerMax {
			return fmt.Errorf("%d of %d requests have no response %s after the last was due",
				g.sent-g.done+int64(len(g.due)), g.sent+int64(len(g.due)), answerMax)
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd < 0 {
				var count [8]byte
				_, _ = unix.Read(g.timer, count[:])
				continue
			}
			if err := g.receive(e.Fd); err != nil {
				return err
			}
		}
	}
}

// over reports whether everything was sent.
func (g *generator) over(now time.Time) bool {
	switch {
	case g.Count > 0:
		return g.sent >= g.Count
	case g.Rate > 0:
		return len(g.due) == 0 && float64(g.sent) >= g.Rate*g.For.Seconds()
	}
	return now.After(g.until)
}

// sendDue sends, in the open model, what should have been sent by now, and sets the timer for what
// comes next. What finds no connection waits, and its latency counts on.
func (g *generator) sendDue() error {
	if g.Rate == 0 {
		return nil
	}
	now := time.Now()
	for {
		scheduled := g.sent + int64(len(g.due))
		at := g.began.Add(time.Duration(float64(scheduled) / g.Rate * float64(time.Second)))
		if float64(scheduled) >= g.Rate*g.For.Seconds() {
			break
		}
		if at.After(now) {
			if err := g.wakeAfter(at.Sub(now)); err != nil {
				return err
			}
			break
		}
		g.due = append(g.due, at)
	}
	sent := 0
	for sent < len(g.due) && (len(g.idle) > 0 || len(g.peers) < g.Connections) {
		if err := g.send(g.due[sent]); err != nil {
			return err
		}
		sent++
	}
	g.due = append(g.due[:0], g.due[sent:]...)
	return nil
}

func (g *generator) wakeAfter(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(d.Nanoseconds(), 1))}
	if err := unix.TimerfdSettime(g.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	return nil
}

// send sends the next request, which should have been sent at the given time.
func (g *generator) send(at time.Time) error {
	n, err := g.connection()
	if err != nil {
		return err
	}
	p := &g.peers[n]
	p.at, p.busy = at, true
	p.create = g.sent%int64(g.Creates+g.Reads) < int64(g.Creates)
	g.sent++
	text := g.requests.read()
	if p.create {
		text = g.requests.create(at)
	}
	wrote, err := unix.Write(p.fd, text)
	if err == nil && wrote < len(text) { // One request fits into the empty buffer of a connection.
		err = fmt.Errorf("%d of %d bytes of a request were taken: %w", wrote, len(text), io.ErrShortWrite)
	}
	return err
}

// receive reads from a connection. When the response is complete it is judged, and in a closed loop
// the next request is sent.
func (g *generator) receive(n int32) error {
	p := &g.peers[n]
	whole, err := p.reply.readFrom(p.fd)
	if err != nil || !whole {
		return err
	}
	if !p.busy {
		return fmt.Errorf("a response without a request: %q", p.reply.text())
	}
	if err := g.judge(p); err != nil {
		return err
	}
	g.lastReply = time.Now()
	took := max(g.lastReply.Sub(p.at).Microseconds(), 1)
	kind := g.read
	if p.create {
		kind = g.create
	}
	_ = g.all.RecordValue(min(took, time.Minute.Microseconds()))
	_ = kind.RecordValue(min(took, time.Minute.Microseconds()))
	g.done++
	p.busy = false
	p.reply.reset()
	g.idle = append(g.idle, n)
	if g.Rate == 0 && !g.over(g.lastReply) {
		return g.send(g.lastReply)
	}
	return nil
}

// judge returns an error for any response but the expected one.
func (g *generator) judge(p *peer) error {
	want := 200
	if p.create {
		want = 202
	}
	switch {
	case p.reply.status == want:
		return nil
	case p.reply.status == 429 && g.Refusals:
		g.refused++
		return nil
	}
	return fmt.Errorf("got status %d, want %d: %.500s", p.reply.status, want, p.reply.text())
}
