package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// profileSecondsMax bounds a profile: twice the 30 s that pprof takes by default. Each one
	// costs the process some of its CPU.
	profileSecondsMax = 60
	// adminWriteTimeout is longer than a scrape of metrics takes. pprof extends it for a profile.
	adminWriteTimeout = 30 * time.Second
)

// Admin is what the admin listener serves.
type Admin struct {
	Metrics prometheus.Gatherer
	// Health handles /livez and /readyz.
	Health http.Handler
	// Hosts are the names by which the listener is reached, in lower case, besides IP addresses and
	// localhost.
	Hosts []string
	// TLS is nil for plain HTTP.
	TLS *tls.Config
	// Tokens returns the bearer tokens that are accepted; nil if there are none.
	Tokens func() []string
	// Certificates accepts a client certificate that TLS has verified.
	Certificates bool
}

// ServeAdmin serves /metrics and /debug/pprof/ on l until ctx ends. They have a listener of their
// own because clients must not reach them.
//
// It does not serve pprof's cmdline, which would show a database password given as a flag.
func ServeAdmin(ctx context.Context, l net.Listener, admin Admin, logger *slog.Logger) error {
	server := newHTTPServer(admin.handler(), admin.TLS, adminWriteTimeout, logger)
	bounded := newBoundedListener(l, adminConnectionsMax, logger, newConnectionMetrics())
	return serve(ctx, server, bounded, time.Second, func() {})
}

func (a Admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{}))
	mux.Handle("GET /livez", a.Health)
	mux.Handle("GET /readyz", a.Health)
	mux.HandleFunc("GET /debug/pprof/", withinSeconds(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", withinSeconds(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", withinSeconds(pprof.Trace))
	authenticated := a.authenticated(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Content-Type-Options"] = nosniff
		if r.ContentLength != 0 { // No route reads a body; net/http would wait for it.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBodyTimeout))
		}
		if !a.isHost(r.Host) {
			http.Error(w, fmt.Sprintf("this listener has no name %.100q; name it in --admin-hosts "+
				"(PAYLATCH_ADMIN_HOSTS), or use an IP address", r.Host), http.StatusMisdirectedRequest)
			return
		}
		authenticated.ServeHTTP(w, r)
	})
}

// isHost reports whether the listener may be reached as host, which is the header of that name.
//
// A web page can have its own name resolve to an address of this machine (DNS rebinding). The
// browser of somebody who may reach this listener would then read from it for the page. That needs
// a name, so addresses are no danger.
func (a Admin) isHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // Without a port.
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "" || name == "localhost" || net.ParseIP(name) != nil || slices.Contains(a.Hosts, name)
}

// withinSeconds refuses a profile of more than profileSecondsMax.
func withinSeconds(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s := r.FormValue("seconds"); s != "" {
			seconds, err := strconv.ParseFloat(s, 64)
			if err != nil || !(seconds > 0 && seconds <= profileSecondsMax) { // NaN is neither.
				http.Error(w, fmt.Sprintf("seconds must be a number above 0 and at most %d", profileSecondsMax),
					http.StatusBadRequest)
				return
			}
		}
		h(w, r)
	}
}
