package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// link is the connection between one replica and PostgreSQL, or one broker: a toxiproxy on a port that stays.
type link struct {
	name, listen, upstream string

	mu    sync.Mutex // One operation at a time.
	proxy *toxiproxy.Proxy
	stuck int // Proxies given up.
}

// proxies is what each toxiproxy belongs to; neither its API nor its log is used.
var proxies = toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())

func init() { zerolog.SetGlobalLevel(zerolog.Disabled) } // Some toxics log by themselves.

func newLink(name string, port, upstream int) (*link, error) {
	l := &link{name: name, listen: address(port), upstream: address(upstream)}
	return l, l.fresh()
}

// fresh starts a proxy on the port; the one before may need a moment to let go of it.
func (l *link) fresh() (err error) {
	for range 50 {
		l.proxy = toxiproxy.NewProxy(proxies, l.name, l.listen, l.upstream)
		if err = l.proxy.Start(); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("link %s: %w", l.name, err)
}

// operationMax bounds an operation of toxiproxy. Adding or removing a toxic can wait for ever for a connection that breaks at that moment, with the proxy's locks held.
const operationMax = 3 * time.Second

// do runs an operation on the proxy; one that hangs is given up, together with its proxy, for a fresh one.
func (l *link) do(operation func(*toxiproxy.Proxy) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	done := make(chan error, 1)
	go func(p *toxiproxy.Proxy) { done <- operation(p) }(l.proxy)
	select {
	case err := <-done:
		return err
	case <-time.After(operationMax):
		l.stuck++
		go l.proxy.Stop() // It lets go of the port first.
		return l.fresh()
	}
}

// cut closes all connections, and takes no new ones.
func (l *link) cut() error {
	return l.do(func(p *toxiproxy.Proxy) error { p.Stop(); return nil })
}

// mend takes connections again.
func (l *link) mend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proxy.Enabled {
		return nil
	}
	return l.fresh()
}

// poison adds a toxic for both or one direction: "downstream" is what the server answers.
func (l *link) poison(toxic string, side int, attributes string) error {
	for _, stream := range [][]string{{"downstream"}, {"upstream"}, {"upstream", "downstream"}}[side] {
		body := fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": {%s}}`, toxic, stream, attributes)
		err := l.do(func(p *toxiproxy.Proxy) error {
			_, err := p.Toxics.AddToxicJson(strings.NewReader(body))
			return err
		})
		if err != nil {
			return fmt.Errorf("link %s: %w", l.name, err)
		}
	}
	return nil
}

// heal removes all toxics. Connections that a black hole has eaten bytes of are closed.
func (l *link) heal() error {
	return l.do(func(p *toxiproxy.Proxy) error { p.Toxics.ResetToxics(background); return nil })
}

func (l *link) close() { _ = l.cut() }
