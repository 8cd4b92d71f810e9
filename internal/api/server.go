// Package api takes payments and reports their status over HTTP.
//
// It keeps the contract in openapi.json:
//
//   - A 202 is sent only after the payment is committed.
//   - Every failure is a problem document (RFC 9457).
//   - Nothing that a client sends causes a 500.
//   - A tenant learns nothing about the payments of another one.
//
// Package payment decides what is valid, and the Store what is on record.
package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"github.com/paylatch/paylatch/internal/payment"
)

// The bounds of a request. A client that is slower is disconnected, so that slow clients do not
// hold what others need.
const (
	bodyBytesMax      = 64 << 10
	headerBytesMax    = 16 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	// preferWaitMax is the longest wait that a client gets by Prefer: wait.
	preferWaitMax = 30 * time.Second
	// workTimeout bounds one call of the store.
	workTimeout = 5 * time.Second
	// responseTimeout is how long a client may take to receive a response, from the first byte on.
	responseTimeout = 5 * time.Second
	// writeTimeout is long enough for the steps of a create that waits: authenticate, read the
	// body, commit, wait, find, respond.
	writeTimeout = workTimeout + readTimeout + workTimeout + preferWaitMax + workTimeout + responseTimeout
	// refusedBodyTimeout is how long a client may still take to send the body of a request that was
	// refused without reading it. The connection can serve another request after that.
	refusedBodyTimeout = time.Second
	// idleTimeout is longer than the 60 s for which balancers commonly keep an idle connection.
	// Otherwise they would send requests over connections that this side has just closed.
	idleTimeout = 75 * time.Second
	// waitersMax bounds the requests that wait because of Prefer: wait. Each one polls the database
	// every pollIntervalLongest. More requests are served without waiting.
	waitersMax = 512
)

// Store keeps the payments. Its errors are those of package payment. It is safe for concurrent use.
type Store interface {
	// Authenticate returns what an API key gives access to.
	Authenticate(ctx context.Context, key payment.APIKeyHash) (payment.Access, error)
	// Create stores the payment, or finds the one that has its id; replayed reports which. If ctx
	// ends, it returns at once, but the payment may still be stored.
	Create(ctx context.Context, p payment.Payment) (stored payment.Payment, replayed bool, err error)
	// Find returns a payment of the tenant. Its result survives a failover of the database.
	Find(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error)
	// Look is Find, but a failover may undo its result. A request that waits polls with it, and
	// reports only what Find returns.
	Look(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error)
	// FindDerived is Find for an id that was derived from an idempotency key of the tenant.
	FindDerived(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error)
	// Ready returns nil if a payment can be stored now.
	Ready(ctx context.Context) (halted []int32, err error)
}

// Server serves the API. It is safe for concurrent use.
type Server struct {
	store   Store
	config  Config
	logger  *slog.Logger
	metrics *Metrics
	router  *mux.Router
	limiter *limiter
	// refused samples the log of requests without a valid API key, by the code of the problem.
	refused map[string]*sampler
	// places are those of the requests that wait because of Prefer: wait.
	places *waitPlaces
	// closing is closed when the server stops.
	closing   chan struct{}
	closeOnce sync.Once

	// unmapped are certificates of no tenant.
	unmapped unmapped

	readiness *readiness
	draining  atomic.Bool
}

// Config is what an operator decides about the API.
type Config struct {
	// Limits are the same for each tenant.
	Limits TenantLimits
	// ConnectionsMax bounds the connections that are open at once; 0 is ConnectionsMaxDefault.
	ConnectionsMax int
	// ShowPosition shows tenants where in Kafka their payments are. The offsets of a tenant's
	// payments reveal how many payments all tenants together make.
	ShowPosition bool
	// TLS is nil for plain HTTP.
	TLS *tls.Config
}

// New returns a server over the store.
func New(store Store, config Config, logger *slog.Logger, metrics *Metrics) *Server {
	s := &Server{
		store: store, config: config, logger: logger, metrics: metrics, router: mux.NewRouter(),
		limiter: newLimiter(config.Limits), refused: newSamplers(), places: newWaitPlaces(waitersMax),
		closing: make(chan struct{}), unmapped: newUnmapped(),
	}
	s.readiness = newReadiness(store.Ready, logger)
	metrics.registerReady(s.readiness.gauge)
	s.routes()
	return s
}

const (
	paymentsPath  = "/payments"
	paymentPrefix = paymentsPath + "/"
	problemPrefix = "/problems/"
	readyPath     = "/readyz"
)

// routes registers the whole API. A path that is not clean is unknown, and is not redirected.
func (s *Server) routes() {
	const get, head, post = http.MethodGet, http.MethodHead, http.MethodPost
	const create, read = payment.ScopeCreate, payment.ScopeRead
	s.router.SkipClean(true)
	s.handle(paymentPrefix+"{id}", segmentUnder(paymentPrefix), s.authenticated(read, s.statusByID), get, head)
	s.handle(paymentsPath, exactly(paymentsPath), s.authenticated(create, s.create), post)
	s.handle(paymentsPath, exactly(paymentsPath), s.authenticated(read, s.statusByKey), get, head)
	s.handle("/livez", exactly("/livez"), live, get, head)
	s.handle(readyPath, exactly(readyPath), s.ready, get, head)
	s.handle("/openapi.json", exactly("/openapi.json"), openAPI, get, head)
	s.handle(problemPrefix+"{code}", segmentUnder(problemPrefix), explainProblem, get, head)
	s.router.NotFoundHandler = s.instrument("", func(*exchange) error { return errNoRoute })
	s.router.MethodNotAllowedHandler = s.instrument("", s.methodNotAllowed)
}

// handle registers h for the requests that match. The path names the route in metrics and log.
func (s *Server) handle(path string, match mux.MatcherFunc, h handler, methods ...string) {
	s.router.MatcherFunc(match).Methods(methods...).Handler(s.instrument(path, h))
}

// exactly and segmentUnder compare strings. The path templates of mux are regular expressions,
// which cost a microsecond for each request.
//
// A path has one spelling. One that is escaped without need, such as /%6civez, is unknown: rules of
// a proxy for the path would not see it.
func exactly(path string) mux.MatcherFunc {
	return func(r *http.Request, _ *mux.RouteMatch) bool { return r.URL.Path == path && r.URL.RawPath == "" }
}

func segmentUnder(prefix string) mux.MatcherFunc {
	return func(r *http.Request, _ *mux.RouteMatch) bool {
		segment, ok := strings.CutPrefix(r.URL.Path, prefix)
		return ok && r.URL.RawPath == "" && segment != "" && !strings.Contains(segment, "/")
	}
}

// lastSegment returns the variable segment of a path that segmentUnder matches.
func lastSegment(r *http.Request) string {
	return r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
}

// ServeHTTP implements http.Handler.
//
// It does not call the router's ServeHTTP, which copies the request twice to pass variables that no
// route here has. Match always finds a handler, if only that for an unknown path or method.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var match mux.RouteMatch
	s.router.Match(r, &match)
	match.Handler.ServeHTTP(w, r)
}

// Serve serves requests on l until ctx ends. Then it accepts no new connections, ends the waits,
// lets the handlers finish for at most grace, and returns.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	server := newHTTPServer(s, s.config.TLS, writeTimeout, s.logger)
	bounded := newBoundedListener(l, cmp.Or(s.config.ConnectionsMax, ConnectionsMaxDefault), s.logger,
		s.metrics.connections)
	checks, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var checking sync.WaitGroup
	checking.Go(func() { s.readiness.run(checks) })
	defer checking.Wait()
	defer cancel()
	return serve(ctx, server, bounded, grace, s.close)
}

// Drain makes GET /readyz fail, and has each response end its connection. All requests are still
// served.
func (s *Server) Drain() {
	s.readiness.drain()
	s.draining.Store(true)
}

// close drains the server and ends the waits.
func (s *Server) close() {
	s.Drain()
	s.closeOnce.Do(func() { close(s.closing) })
}

// newHTTPServer returns a server for h with the bounds of this package. Errors of connections are
// logged as debug: clients cause them. A TLS handshake must end within readHeaderTimeout, and then
// the header begins.
//
// It speaks HTTP/1.1 only, with and without TLS: see docs/adr/0042-tls-by-the-service.md.
func newHTTPServer(
	h http.Handler, secured *tls.Config, writeTimeout time.Duration, logger *slog.Logger,
) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		TLSConfig:         secured,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// serve runs an HTTP server until ctx ends. Then it calls closing and stops the server within
// grace. Handlers that do not finish in time are cut off. A retry finds what they stored.
func serve(
	ctx context.Context, server *http.Server, l *boundedListener, grace time.Duration, closing func(),
) error {
	server.ConnState = l.track
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(l, "", "") // The certificate is in TLSConfig.
			return
		}
		failed <- server.Serve(l)
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	closing()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := server.Shutdown(ctx)
	if err != nil {
		_ = server.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
