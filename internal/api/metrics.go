package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts requests and responses of the API. It is safe for concurrent use.
type Metrics struct {
	registerer prometheus.Registerer

	creates  *prometheus.CounterVec
	refusals *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	waits    *prometheus.CounterVec

	connections *connectionMetrics
}

// NewMetrics registers the metrics of the API. Routes and codes are closed sets, so a client cannot
// create new series.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		registerer: r, connections: newConnectionMetrics(),
		creates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paylatch_creates_total",
			Help: "Successful creates (202 or 200), by kind: original or replay.",
		}, []string{"kind"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paylatch_refusals_total",
			Help: "Responses that are problems, by code.",
		}, []string{"code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "paylatch_http_request_seconds",
			Help:    "Time from the header of the request to the end of the response.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"method", "route", "status"}),
		waits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paylatch_waits_total",
			Help: "Requests with Prefer: wait, by how the wait ended: changed, timeout, " +
				"no_place (too many wait), displaced (by a tenant with fewer waits), stopped, gone, " +
				"revoked (the API key), failed.",
		}, []string{"method", "result"}),
	}
	r.MustRegister(m.creates, m.refusals, m.latency, m.waits)
	m.connections.register(r)
	return m
}

func (m *Metrics) created(replayed bool) {
	kind := "original"
	if replayed {
		kind = "replay"
	}
	m.creates.WithLabelValues(kind).Inc()
}

// registerReady registers the gauge of a server's readiness. value is called for each scrape.
func (m *Metrics) registerReady(value func() float64) {
	m.registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paylatch_ready",
		Help: "1 while GET /readyz responds 200, else 0.",
	}, value))
}

func (m *Metrics) waited(method string, result waitResult) {
	m.waits.WithLabelValues(method, string(result)).Inc()
}

// responded counts a response. A request without a route may have any method, so its method is not
// used as a label.
func (m *Metrics) responded(method, route string, status int, code string, took time.Duration) {
	if route == "" {
		method, route = "other", "none"
	}
	if code != "" {
		m.refusals.WithLabelValues(code).Inc()
	}
	m.latency.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}
