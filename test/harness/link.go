package harness

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Link is the connection between one replica and one server: a toxiproxy that listens on a port of
// its own. The port stays the same while connections are cut, slowed down or reset.
type Link struct {
	Name, Listen string
	upstream     string

	mu    sync.Mutex // One operation at a time.
	proxy *toxiproxy.Proxy
	stuck int // Proxies that were replaced because an operation hung.
}

// proxies is the server that each toxiproxy needs; neither its API nor its log is used.
var proxies = toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())

func init() { zerolog.SetGlobalLevel(zerolog.Disabled) } // Some toxics log on their own.

// NewLink listens on port and forwards to the port upstream.
func NewLink(name string, port, upstream int) (*Link, error) {
	l := &Link{Name: name, Listen: Address(port), upstream: Address(upstream)}
	return l, l.start()
}

// start starts a new proxy. The one before may hold the port for a moment.
func (l *Link) start() (err error) {
	for range 50 {
		l.proxy = toxiproxy.NewProxy(proxies, l.Name, l.Listen, l.upstream)
		err = l.proxy.Start()
		if err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("link %s: %w", l.Name, err)
}

// operationTimeout bounds one operation of toxiproxy. Adding or removing a toxic can wait forever,
// with the proxy's locks held, for a connection that breaks at that moment.
const operationTimeout = 3 * time.Second

// do runs an operation on the proxy. A proxy whose operation hangs is replaced by a new one.
func (l *Link) do(operation func(*toxiproxy.Proxy) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	done := make(chan error, 1)
	go func(p *toxiproxy.Proxy) { done <- operation(p) }(l.proxy)
	select {
	case err := <-done:
		return err
	case <-time.After(operationTimeout):
		l.stuck++
		go l.proxy.Stop() // It frees the port first.
		return l.start()
	}
}

// Cut closes all connections and refuses new ones.
func (l *Link) Cut() error {
	return l.do(func(p *toxiproxy.Proxy) error { p.Stop(); return nil })
}

// Mend accepts connections again after Cut.
func (l *Link) Mend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proxy.Enabled {
		return nil
	}
	return l.start()
}

// Poison adds a toxic. Side 0 is what the server sends ("downstream"), 1 is what the client sends,
// 2 is both.
func (l *Link) Poison(toxic string, side int, attributes string) error {
	for _, stream := range [][]string{{"downstream"}, {"upstream"}, {"upstream", "downstream"}}[side] {
		body := fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": {%s}}`, toxic, stream, attributes)
		err := l.do(func(p *toxiproxy.Proxy) error {
			_, err := p.Toxics.AddToxicJson(strings.NewReader(body))
			return err
		})
		if err != nil {
			return fmt.Errorf("link %s: %w", l.Name, err)
		}
	}
	return nil
}

// Heal removes all toxics. Connections that lost bytes to a timeout toxic are closed.
func (l *Link) Heal() error {
	return l.do(func(p *toxiproxy.Proxy) error { p.Toxics.ResetToxics(context.Background()); return nil })
}

// Stuck returns how many proxies had to be replaced.
func (l *Link) Stuck() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stuck
}

// Close cuts the link for good.
func (l *Link) Close() { _ = l.Cut() }
