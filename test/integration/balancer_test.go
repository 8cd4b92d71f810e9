package integration

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer is a small load balancer: it sends requests to the replicas whose last poll of /readyz
// returned 200, in rotation. It keeps connections to them, and makes no request twice.
type balancer struct {
	url   string
	polls *http.Client

	mu       sync.Mutex
	replicas []*backend
	next     int
}

// backend is one replica, as the balancer sees it.
type backend struct {
	proxy *httputil.ReverseProxy
	up    atomic.Bool
	// underWay counts requests. It is incremented under the balancer's lock.
	underWay atomic.Int32
}

// left reports whether the balancer has taken the replica out of use, and has no request in
// progress with it.
func (b *balancer) left(r *backend) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !r.up.Load() && r.underWay.Load() == 0
}

const (
	pollEvery   = 200 * time.Millisecond
	pollTimeout = 2 * time.Second
)

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	b := &balancer{polls: &http.Client{Timeout: pollTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

// add polls one more replica until the test ends. The replica may end at any time.
func (b *balancer) add(t *testing.T, api string) *backend {
	t.Helper()
	target, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	proxy := httputil.NewSingleHostReverseProxy(target)
	// The proxy's log is discarded, since the client reports its failures.
	proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
	r := &backend{proxy: proxy}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var polling sync.WaitGroup
	polling.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(pollEvery) {
			r.up.Store(b.ready(ctx, api))
		}
	})
	t.Cleanup(func() {
		cancel()
		polling.Wait()
		transport.CloseIdleConnections()
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = append(b.replicas, r)
	return r
}

func (b *balancer) ready(ctx context.Context, api string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := b.polls.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// ServeHTTP implements http.Handler. Requests queue while no replica is ready, as on a busy
// machine.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if chosen := b.choose(); chosen != nil {
			defer chosen.underWay.Add(-1)
			chosen.proxy.ServeHTTP(w, r)
			return
		}
		time.Sleep(pollEvery)
	}
}

// choose returns the next replica that is ready, or nil.
func (b *balancer) choose() *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.replicas {
		b.next++
		if r := b.replicas[b.next%len(b.replicas)]; r.up.Load() {
			r.underWay.Add(1)
			return r
		}
	}
	return nil
}
