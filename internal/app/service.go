// Package app puts the parts of a process together: store, API, senders, and the admin listener. It
// is the only package where all of them meet. Its Config is what flags and variables say.
package app

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
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/buildinfo"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/metrics"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/internal/tlsfile"
)

// Service is one process: an API, senders, or both.
type Service struct {
	config   Config
	logger   *slog.Logger
	store    *store.Store
	registry *prometheus.Registry
	server   *api.Server
	listener net.Listener // Nil without an API.
	admin    net.Listener
	// apiTLS and adminTLS are nil for plain HTTP.
	apiTLS, adminTLS *tlsfile.Server
	brokers          *brokers.Access // Nil without a sender, as is cluster.
	cluster          *kafka.Cluster
	sending          *sender.Metrics
	health           *senderHealth // Of a process without an API.
}

// New creates the parts and opens the ports. Nothing is served or sent before Run.
func New(ctx context.Context, c Config, logger *slog.Logger) (*Service, error) {
	s := &Service{config: c, logger: logger, registry: prometheus.NewRegistry()}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Service) open(ctx context.Context) (err error) {
	c := s.config
	s.store, err = store.Open(context.WithoutCancel(ctx), string(c.URL()), int32(c.DatabaseConnections),
		store.WithLogger(s.logger), store.WithAccess(c.access(s.logger)))
	if err != nil {
		return err
	}
	s.registry.MustRegister(metrics.NewBacklog(s.store), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newBuildInfo(buildinfo.Read()))
	s.health = newSenderHealth(s.store.Ping)
	if err := errors.Join(s.openAPI(), s.openAdmin()); err != nil {
		return err
	}
	if c.Sender != nil {
		s.sending = sender.NewMetrics(s.registry) // There from the start, at zero.
		err = s.openKafka()
	}
	return err
}

// openAPI opens the port of the API, if this process has one.
func (s *Service) openAPI() (err error) {
	settings := s.config.API
	if settings == nil {
		return nil
	}
	s.apiTLS, err = settings.files().open(s.logger)
	if err != nil {
		return err
	}
	s.listener, err = Listen("listen", settings.Listen)
	if err != nil {
		return err
	}
	config, err := settings.config()
	if err != nil {
		return err
	}
	config.TLS = s.apiTLS.Config()
	s.server = api.New(s.store, config, s.logger, api.NewMetrics(s.registry))
	return nil
}

// openAdmin opens the port of the admin listener.
func (s *Service) openAdmin() (err error) {
	s.adminTLS, err = s.config.files().open(s.logger)
	if err != nil {
		return err
	}
	if warning := s.config.clearToken(); warning != "" {
		s.logger.Warn("unwise setting", "warning", warning)
	}
	s.admin, err = Listen("admin-listen", s.config.AdminListen)
	return err
}

// openKafka reads the files of the brokers' settings. It connects to nothing.
func (s *Service) openKafka() (err error) {
	s.brokers, err = s.config.KafkaAccess()
	if err != nil {
		return err
	}
	s.brokers.LogTo(s.logger)
	s.cluster, err = kafka.NewCluster(s.brokers)
	return err
}

// Run serves and sends until ctx ends or a part fails. Then it drains, unless a part failed, and
// stops in the order in which a payment goes: no new requests, handlers finish, no new claims, the
// batches in hand finish, connections close; all of it within one ShutdownTimeout. A kill at any
// point is as safe.
func (s *Service) Run(ctx context.Context) error {
	defer s.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	admin := start(ctx, cancel, s.serveAdmin)
	database := start(ctx, cancel, s.awaitDatabase)
	senders := start(ctx, cancel, s.send)
	server := start(ctx, cancel, s.serve)
	<-ctx.Done()
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) { // A part that fails leaves nothing to wait for.
		s.drain(ctx, server)
	}
	s.health.stopping()
	complete := s.stop(ctx, cause, database, server, senders, admin)
	if !errors.Is(cause, context.Canceled) {
		return cause
	}
	if !complete {
		return fmt.Errorf("stopped after %s before everything had finished; nothing is lost", s.config.ShutdownTimeout)
	}
	return nil
}

// stop stops the parts one after the other, and reports whether all of them ended in time.
func (s *Service) stop(ctx context.Context, cause error, parts ...*part) (complete bool) {
	began, timeout := time.Now(), time.Duration(s.config.ShutdownTimeout)
	s.logger.Info("stopping", "cause", cause, "timeout", timeout)
	deadline, done := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer done()
	for _, p := range parts {
		p.stop(deadline)
	}
	complete = deadline.Err() == nil
	s.logger.Info("stopped", "took", time.Since(began), "complete", complete)
	return complete
}

// StopSignals ask the process to stop.
var StopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// drain lets balancers and clients move away from the API before its listener closes, for the drain
// delay. It ends early when one more of StopSignals arrives, or when the API has ended by itself.
func (s *Service) drain(ctx context.Context, server *part) {
	delay := s.config.drainDelay()
	if delay == 0 {
		return
	}
	again, stop := signal.NotifyContext(context.WithoutCancel(ctx), StopSignals...)
	defer stop()
	s.server.Drain()
	s.logger.Info("draining", "cause", context.Cause(ctx), "delay", delay)
	select {
	case <-time.After(delay):
	case <-again.Done():
	case <-server.done:
	}
}

// part is one part of the process, running.
type part struct {
	cancel context.CancelFunc
	done   chan struct{} // Closed when it has ended.
}

// start runs one part. The end of ctx does not stop it: part.stop does. A part that fails ends the
// others, too.
func start(ctx context.Context, failed context.CancelCauseFunc, run func(context.Context) error) *part {
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

// serve serves requests, if this process has an API.
func (s *Service) serve(ctx context.Context) error {
	if s.server == nil {
		<-ctx.Done()
		return nil
	}
	return s.server.Serve(ctx, s.listener, time.Duration(s.config.ShutdownTimeout))
}

func (s *Service) serveAdmin(ctx context.Context) error {
	admin := api.Admin{Metrics: s.registry, Health: s.health.handler(), Hosts: s.config.AdminHosts}
	if s.server != nil {
		admin.Health = s.server.AdminHealth()
	}
	admin.TLS, admin.Certificates = s.adminTLS.Config(), s.config.AdminTLSClientCA != ""
	if token := s.config.token(); token.IsGiven() {
		token.LogTo(s.logger)
		admin.Tokens = s.config.Tokens
	}
	return api.ServeAdmin(ctx, s.admin, admin, s.logger)
}

// send waits for a topic that is fit for payments, and runs the senders. The API
// takes payments at the same time.
func (s *Service) send(ctx context.Context) error {
	if s.cluster == nil {
		<-ctx.Done()
		return nil
	}
	topic, err := s.awaitTopic(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	s.health.found()
	c := s.config
	publisher := kafka.NewLocked(s.brokers, topic, store.PublishTimeout)
	defer publisher.Close()
	config := sender.Config{
		Store: s.store, Delivery: store.Delivery(c.Sender.Delivery), Publisher: publisher,
		Fencer: sender.FencerOf(kafka.NewFencer(s.brokers, topic, store.PublishTimeout)),
		Log:    s.cluster, Encoder: kafka.NewEncoder(string(c.Sender.Source)),
		BatchMax: int(c.Sender.BatchMax), Logger: s.logger, Metrics: s.sending,
	}
	var senders sync.WaitGroup
	for range max(c.Senders, 1) {
		senders.Go(func() { sender.New(config).Run(ctx) })
	}
	senders.Wait()
	return nil
}

// close closes what open opened.
func (s *Service) close() {
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

// URL returns where the API listens; empty without an API.
func (s *Service) URL() string { return listenerURL(s.listener, s.apiTLS) }

// AdminURL returns where the admin listener listens.
func (s *Service) AdminURL() string { return listenerURL(s.admin, s.adminTLS) }
