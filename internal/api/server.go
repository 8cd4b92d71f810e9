// Package api takes payments and tells their status over HTTP.
//
// It promises the contract of openapi.json: a 202 is answered only after the payment is committed, every failure is a problem document
// (RFC 9457), nothing that a client sends causes a 500, and nothing about one tenant's payments is told to another. It leaves to package payment
// what is valid, and to its Store what is on record.
package api

import (
	"context"
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

// The bounds of a request. A client that is slower than these is cut off, so that slow clients cannot hold what others need.
const (
	bodyMax           = 64 << 10
	headerMax         = 16 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	waitMax           = 30 * time.Second // The longest Prefer: wait that is honoured.
	workTimeout       = 5 * time.Second  // One call of the store.
	// writeTimeout lets a create that waits authenticate, arrive, commit, wait and confirm.
	writeTimeout = workTimeout + readTimeout + workTimeout + waitMax + workTimeout
	idleTimeout  = 2 * time.Minute
	waitersMax   = 512 // Requests that may hold their answer, each a look at the database every waitStepMax; more are answered without waiting.
)

// Store is what this room needs of what is on record. Its errors are those of package payment.
type Store interface {
	Authenticate(ctx context.Context, key payment.APIKeyHash) (payment.Tenant, error)
	// Create stores the payment or finds the one that is there under its id; replayed tells which. When ctx ends, because the client has gone or time is up, it returns at
	// once; what is under way goes to its end.
	Create(ctx context.Context, p payment.Payment) (stored payment.Payment, replayed bool, err error)
	Find(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error)
	// Look is Find without the proof that the row survives a failover. A held request polls with
	// it, and reports only what Find returns.
	Look(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error)
	FindDerived(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error)
	Ready(ctx context.Context) (halted []int32, err error)
}

// Server answers the API.
type Server struct {
	store   Store
	logger  *slog.Logger
	metrics *Metrics
	router  *mux.Router
	limiter *limiter
	waiters chan struct{} // A place for each request that holds its answer.
	closing chan struct{} // Closed when the server stops.
	stop    sync.Once     // Of closing.

	readiness *readiness
	draining  atomic.Bool
}

// New returns a server over the store, which gives each tenant what limits say.
func New(store Store, limits TenantLimits, logger *slog.Logger, metrics *Metrics) *Server {
	s := &Server{
		store: store, logger: logger, metrics: metrics, router: mux.NewRouter(), limiter: newLimiter(limits),
		waiters: make(chan struct{}, waitersMax), closing: make(chan struct{}),
	}
	s.readiness = newReadiness(store.Ready, logger)
	metrics.registerReady(s.readiness.value)
	s.routes()
	return s
}

// The paths with payments; those under paymentPrefix are one segment longer.
const (
	paymentsPath  = "/payments"
	paymentPrefix = paymentsPath + "/"
	problemPrefix = "/problems/"
	readyPath     = "/readyz"
)

// routes is the whole API.
func (s *Server) routes() {
	s.router.SkipClean(true) // A path that is not clean is an unknown one, not a redirect.
	s.handle(paymentPrefix+"{id}", segmentUnder(paymentPrefix), s.authenticated(s.find), http.MethodGet, http.MethodHead)
	s.handle(paymentsPath, exactly(paymentsPath), s.authenticated(s.create), http.MethodPost)
	s.handle(paymentsPath, exactly(paymentsPath), s.authenticated(s.findByKey), http.MethodGet, http.MethodHead)
	s.handle("/livez", exactly("/livez"), live, http.MethodGet, http.MethodHead)
	s.handle(readyPath, exactly(readyPath), s.ready, http.MethodGet, http.MethodHead)
	s.handle("/openapi.json", exactly("/openapi.json"), openAPI, http.MethodGet, http.MethodHead)
	s.handle(problemPrefix+"{code}", segmentUnder(problemPrefix), explainProblem, http.MethodGet, http.MethodHead)
	s.router.NotFoundHandler = s.answered("", func(*exchange) error { return errNoRoute })
	s.router.MethodNotAllowedHandler = s.answered("", s.methodNotAllowed)
}

// handle gives requests that match to a handler; the path names the route in metrics and log.
func (s *Server) handle(path string, match mux.MatcherFunc, h handler, methods ...string) {
	s.router.MatcherFunc(match).Methods(methods...).Handler(s.answered(path, h))
}

// exactly and segmentUnder are matched by comparison; mux would make regular expressions of the same templates, at a microsecond for each request.
func exactly(path string) mux.MatcherFunc {
	return func(r *http.Request, _ *mux.RouteMatch) bool { return r.URL.Path == path }
}

func segmentUnder(prefix string) mux.MatcherFunc {
	return func(r *http.Request, _ *mux.RouteMatch) bool {
		segment, ok := strings.CutPrefix(r.URL.Path, prefix)
		return ok && segment != "" && !strings.Contains(segment, "/")
	}
}

// lastSegment is what a route of segmentUnder leaves open.
func lastSegment(r *http.Request) string {
	return r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var match mux.RouteMatch
	s.router.Match(r, &match)     // Always finds one: those for no path and for no method.
	match.Handler.ServeHTTP(w, r) // Not the router's ServeHTTP, which copies the request twice to hand over variables that there are none of.
}

// Serve answers requests on l until ctx ends. Then it takes no new connections, ends the waits,
// lets the handlers finish for at most grace, and returns.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: headerMax, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	checks, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var checking sync.WaitGroup
	checking.Go(func() { s.readiness.run(checks) })
	defer checking.Wait()
	defer cancel()
	return serve(ctx, server, l, grace, s.close)
}

// Drain makes GET /readyz fail, and has each response end its connection. All requests are served
// as before.
func (s *Server) Drain() {
	s.readiness.drain()
	s.draining.Store(true)
}

// close turns readiness off and ends the waits.
func (s *Server) close() {
	s.Drain()
	s.stop.Do(func() { close(s.closing) })
}

// serve runs an HTTP server until ctx ends and then stops it within grace.
func serve(ctx context.Context, server *http.Server, l net.Listener, grace time.Duration, closing func()) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	closing()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := server.Shutdown(ctx)
	if err != nil { // Handlers that did not finish in time are cut off; what they stored is found by the retry.
		_ = server.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
