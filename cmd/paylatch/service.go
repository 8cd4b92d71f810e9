package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

// service is the parts of one process, connected: the one place where all rooms meet.
type service struct {
	config   config
	logger   *slog.Logger
	store    *store.Store
	registry *prometheus.Registry
	server   *api.Server
	listener net.Listener // Nil without an API.
	admin    net.Listener
	cluster  *kafka.Cluster // Nil without a sender.
	sending  *sender.Metrics
	senders  int
}

// newService makes the parts and takes the ports; nothing is served or sent before run.
func newService(ctx context.Context, c config, senders int, logger *slog.Logger) (*service, error) {
	s := &service{config: c, logger: logger, registry: prometheus.NewRegistry(), senders: senders}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *service) open(ctx context.Context) (err error) {
	c := s.config
	if s.store, err = store.Open(context.WithoutCancel(ctx), c.databaseURL, c.connections, store.WithLogger(s.logger)); err != nil {
		return err
	}
	s.registry.MustRegister(store.NewCollector(s.store), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if c.listen != "" {
		if s.listener, err = listen("listen", c.listen); err != nil {
			return err
		}
		s.server = api.New(s.store, c.limits, s.logger, api.NewMetrics(s.registry))
	}
	if s.admin, err = listen("admin-listen", c.adminListen); err != nil {
		return err
	}
	if c.delivery != "" {
		s.sending = sender.NewMetrics(s.registry) // There from the start, at zero.
		s.cluster, err = kafka.NewCluster(c.brokers)
	}
	return err
}

// retryEvery paces the questions that a starting process repeats until the database or the broker is there.
const retryEvery = time.Second

// run serves and sends until ctx ends or a part fails. Then it drains, unless a part failed, and
// stops in the order in which a payment goes: no new requests, handlers finish, no new claims, the
// passes in hand finish, connections close; all of it within one shutdownTimeout. A kill at any
// point is as safe.
func (s *service) run(ctx context.Context) error {
	defer s.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	admin := s.start(ctx, cancel, func(ctx context.Context) error { return api.ServeAdmin(ctx, s.admin, s.registry, s.logger) })
	database := s.start(ctx, cancel, s.awaitDatabase)
	senders := s.start(ctx, cancel, s.send)
	server := s.start(ctx, cancel, s.serve)
	<-ctx.Done()
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) { // A part that fails leaves nothing to wait for.
		s.drain(ctx, server)
	}

	began := time.Now()
	s.logger.Info("stopping", "cause", cause, "timeout", s.config.shutdownTimeout.String())
	deadline, done := context.WithTimeout(context.WithoutCancel(ctx), s.config.shutdownTimeout)
	defer done()
	for _, p := range []*part{database, server, senders, admin} {
		p.stop(deadline)
	}
	s.logger.Info("stopped", "took", time.Since(began).String(), "complete", deadline.Err() == nil)
	if !errors.Is(cause, context.Canceled) {
		return cause
	}
	if deadline.Err() != nil {
		return fmt.Errorf("stopped after %s before everything had finished; nothing is lost", s.config.shutdownTimeout)
	}
	return nil
}

// stopSignals ask the process to stop.
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// drain lets balancers and clients move away from the API before its listener closes, for
// drainDelay. It ends early when one more stopSignal arrives, or when the API has ended by itself.
func (s *service) drain(ctx context.Context, server *part) {
	if s.server == nil || s.config.drainDelay == 0 {
		return
	}
	again, stop := signal.NotifyContext(context.WithoutCancel(ctx), stopSignals...)
	defer stop()
	s.server.Drain()
	s.logger.Info("draining", "cause", context.Cause(ctx), "delay", s.config.drainDelay.String())
	select {
	case <-time.After(s.config.drainDelay):
	case <-again.Done():
	case <-server.done:
	}
}

// part is one part of the process, running.
type part struct {
	cancel context.CancelFunc
	done   chan struct{} // Closed when it has ended.
}

// start runs one part. It is not stopped by ctx, whose end only begins the stopping, but by
// part.stop. A part that fails ends the others, too.
func (s *service) start(ctx context.Context, failed context.CancelCauseFunc, run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &part{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}()
	return p
}

// stop stops the part, and waits for it until the deadline.
func (p *part) stop(deadline context.Context) {
	p.cancel()
	select {
	case <-p.done:
	case <-deadline.Done():
	}
}

// serve answers requests, if this process has an API.
func (s *service) serve(ctx context.Context) error {
	if s.server == nil {
		<-ctx.Done()
		return nil
	}
	return s.server.Serve(ctx, s.listener, s.config.shutdownTimeout)
}

// send waits for a topic that is fit for payments, and runs the senders. Payments are taken meanwhile.
func (s *service) send(ctx context.Context) error {
	if s.cluster == nil {
		<-ctx.Done()
		return nil
	}
	topic, err := s.awaitTopic(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	publisher := kafka.NewLocked(s.config.brokers, topic, store.PublishTimeout)
	defer publisher.Close()
	fencer := sender.FencerOf(kafka.NewFencer(s.config.brokers, topic, store.PublishTimeout))
	var senders sync.WaitGroup
	for range s.senders {
		one := sender.New(sender.Config{
			Store: s.store, Delivery: s.config.delivery, Publisher: publisher, Fencer: fencer, Log: s.cluster, Encoder: kafka.NewEncoder(s.config.source),
			BatchMax: s.config.batchMax, Logger: s.logger, Metrics: s.sending,
		})
		senders.Go(func() { one.Run(ctx) })
	}
	senders.Wait()
	return nil
}

// close closes what newService opened.
func (s *service) close() {
	for _, l := range []net.Listener{s.listener, s.admin} {
		if l != nil {
			_ = l.Close() // Closed already when it was served.
		}
	}
	if s.cluster != nil {
		s.cluster.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
}

func (s *service) apiURL() string   { return listenerURL(s.listener) }
func (s *service) adminURL() string { return listenerURL(s.admin) }

func listenerURL(l net.Listener) string {
	if l == nil {
		return ""
	}
	return "http://" + l.Addr().String()
}

// listen takes a port, or says in a sentence what to do when it cannot.
func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, portInUse(flag, address)
	}
	if err != nil {
		return nil, fmt.Errorf("--%s: cannot listen on %s: %w", flag, address, err)
	}
	return l, nil
}

func portInUse(flag, address string) error {
	return fmt.Errorf("%s is in use by another program: stop it, or give --%s another address (port 0 takes any free one)", address, flag)
}
