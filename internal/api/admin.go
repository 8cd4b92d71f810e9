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

// profileTimeout lets a CPU profile of half a minute, pprof's default, be written.
const profileTimeout = time.Minute

// ServeAdmin answers /metrics and /debug/pprof/ on l until ctx ends. The listener is a separate one, since neither is for clients.
func ServeAdmin(ctx context.Context, l net.Listener, metrics prometheus.Gatherer, logger *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // Without cmdline, which would show the database's password where it is a flag.
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: profileTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: headerMax, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	return serve(ctx, server, l, time.Second, func() {})
}
