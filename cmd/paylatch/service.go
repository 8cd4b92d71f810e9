package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
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
	config    config
	logger    *slog.Logger
	store     *store.Store
	registry  *prometheus.Registry
	server    *api.Server
	listener  net.Listener // Nil without an API.
	admin     net.Listener
	cluster   *kafka.Cluster // Nil without a sender.
	publisher *kafka.Locked
	senders   []*sender.Sender
}

// newService makes the parts and takes the ports; nothing is served or sent before run.
func newService(ctx context.Context, c config, senders int, logger *slog.Logger) (*service, error) {
	s := &service{config: c, logger: logger, registry: prometheus.NewRegistry()}
	if err := s.open(ctx, senders); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *service) open(ctx context.Context, senders int) (err error) {
	c := s.config
	if s.store, err = store.Open(context.WithoutCancel(ctx), c.databaseURL, c.connections); err != nil {
		return err
	}
	s.registry.MustRegister(store.Collector{Store: s.store}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if c.listen != "" {
		if s.listener, err = listen("listen", c.listen); err != nil {
			return err
		}
		s.server = api.New(s.store, s.logger, api.NewMetrics(s.registry))
	}
	if s.admin, err = listen("admin-listen", c.adminListen); err != nil {
		return err
	}
	if c.delivery != "" {
		return s.newSenders(ctx, senders)
	}
	return nil
}

// newSenders makes the sending parts. The topic's name comes from the database, where `partitions init` put it.
func (s *service) newSenders(ctx context.Context, n int) (err error) {
	if s.cluster, err = kafka.NewCluster(s.config.brokers); err != nil {
		return err
	}
	topic, err := s.topicName(ctx)
	if err != nil {
		return err
	}
	s.publisher = kafka.NewLocked(s.config.brokers, topic, store.PublishTimeout)
	metrics := sender.NewMetrics(s.registry)
	for range n {
		s.senders = append(s.senders, sender.New(sender.Config{
			Store: s.store, Publisher: s.publisher, Log: s.cluster, Encoder: kafka.NewEncoder(s.config.source), Delivery: s.config.delivery,
			BatchMax: s.config.batchMax, Logger: s.logger, Metrics: metrics,
		}))
	}
	return nil
}

// retryEvery paces the questions that a starting process repeats until the database or the broker is there.
const retryEvery = time.Second

// topicName waits for the topic to be set up and returns its name.
func (s *service) topicName(ctx context.Context) (string, error) {
	for told := false; ; told = true {
		partitions, err := s.store.Partitions(ctx)
		if err == nil && len(partitions) > 0 {
			return partitions[0].Topic, nil
		}
		if !told {
			s.logger.Warn("waiting for the database, with the topic set up (paylatch migrate up; paylatch partitions init)", "error", err)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("stopped while waiting for the database: %w", ctx.Err())
		case <-time.After(retryEvery):
		}
	}
}

// run serves and sends until ctx ends or a part fails, and then stops in the order in which a payment goes: no new requests, handlers finish, no new
// claims, the passes in hand finish, connections close; all within one deadline. A kill at any point is as safe.
func (s *service) run(ctx context.Context) error {
	defer s.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopAdmin := s.start(ctx, cancel, func(ctx context.Context) error { return api.ServeAdmin(ctx, s.admin, s.registry, s.logger) })
	stopSenders := s.start(ctx, cancel, s.send)
	stopAPI := func(context.Context) {}
	if s.server != nil {
		stopAPI = s.start(ctx, cancel, func(ctx context.Context) error { return s.server.Serve(ctx, s.listener, s.config.shutdownTimeout) })
	}
	<-ctx.Done()
	s.logger.Info("stopping")
	deadline, done := context.WithTimeout(context.WithoutCancel(ctx), s.config.shutdownTimeout)
	defer done()
	stopAPI(deadline)
	stopSenders(deadline)
	stopAdmin(deadline)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	if deadline.Err() != nil {
		return fmt.Errorf("stopped after %s before everything had finished; nothing is lost", s.config.shutdownTimeout)
	}
	return nil
}

// start runs one part. It is not stopped by ctx, whose end only begins the stopping, but by the returned function, which waits for it until its
// deadline. A part that fails ends the others, too.
func (s *service) start(ctx context.Context, failed context.CancelCauseFunc, part func(context.Context) error) (stop func(deadline context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}()
	return func(deadline context.Context) {
		cancel()
		select {
		case <-done:
		case <-deadline.Done():
		}
	}
}

// send runs the senders, once the topic is known to be fit for payments.
func (s *service) send(ctx context.Context) error {
	if len(s.senders) == 0 {
		<-ctx.Done()
		return nil
	}
	if err := s.judgeTopic(ctx); err != nil {
		return err
	}
	var senders sync.WaitGroup
	for _, one := range s.senders {
		senders.Go(func() { one.Run(ctx) })
	}
	senders.Wait()
	return nil
}

// judgeTopic asks, until the brokers answer, whether the topic is fit; faults are an error, warnings are logged. Payments are taken meanwhile.
func (s *service) judgeTopic(ctx context.Context) error {
	for {
		partitions, err := s.store.Partitions(ctx)
		if err == nil {
			var topic kafka.Topic
			if topic, err = s.cluster.Topic(ctx, partitions[0].Topic); err == nil {
				for _, warning := range topic.Warnings() {
					s.logger.Warn(warning)
				}
				if faults := topic.Faults(len(partitions)); len(faults) > 0 {
					return fmt.Errorf("the topic is not fit for payments: %s", strings.Join(faults, "; "))
				}
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		s.logger.Warn("waiting for Kafka", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(5 * retryEvery):
		}
	}
}

// close closes what newService opened.
func (s *service) close() {
	for _, l := range []net.Listener{s.listener, s.admin} {
		if l != nil {
			_ = l.Close() // Closed already when it was served.
		}
	}
	if s.publisher != nil {
		s.publisher.Close()
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
