package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// profileTimeout is long enough for a CPU profile of 30 s, the default of pprof.
const profileTimeout = time.Minute

// ServeAdmin serves /metrics and /debug/pprof/ on l until ctx ends. They have a listener of their
// own because clients must not reach them. /livez and /readyz are those of health.
//
// It does not serve pprof's cmdline, which would show a database password given as a flag.
func ServeAdmin(
	ctx context.Context, l net.Listener, metrics prometheus.Gatherer, health http.Handler, logger *slog.Logger,
) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.Handle("GET /livez", health)
	mux.Handle("GET /readyz", health)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := newHTTPServer(mux, profileTimeout, logger)
	bounded := newBoundedListener(l, adminConnectionsMax, logger, newConnectionMetrics())
	return serve(ctx, server, bounded, time.Second, func() {})
}
