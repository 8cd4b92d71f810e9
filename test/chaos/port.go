package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// background is for what must be done even when the run is cut short; each use has a bound of its own.
var background = context.Background()

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ports hands out free ports. They lie below those that the kernel gives to outgoing connections: one of them must not take the port of a broker that is down.
type ports struct{ next int }

func newPorts() *ports { return &ports{next: 20_000 + rand.IntN(8_000)} }

func (p *ports) take() (int, error) {
	for ; p.next < 32_000; p.next++ {
		l, err := net.Listen("tcp", address(p.next))
		if err == nil {
			p.next++
			return p.next - 1, l.Close()
		}
	}
	return 0, errors.New("no free port below 32000")
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
