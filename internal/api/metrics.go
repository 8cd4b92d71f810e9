package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the API takes and answers.
type Metrics struct {
	registerer prometheus.Registerer

	creates  *prometheus.CounterVec
	refusals *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	waits    *prometheus.CounterVec
}

// NewMetrics registers the API's metrics. Routes and codes are closed sets, so that no client can make new series.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		registerer: r,
		creates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paylatch_creates_total", Help: "Creates answered 202 or 200: original ones, and replays of them.",
		}, []string{"kind"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paylatch_refusals_total", Help: "Requests answered with a problem, by its code.",
		}, []string{"code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "paylatch_http_request_seconds", Help: "Time from the request's header to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"method", "route", "status"}),
		waits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paylatch_waits_total",
			Help: "Requests with Prefer: wait, by how the wait ended: changed, timeout, no_place, stopped, gone, failed.",
		}, []string{"method", "result"}),
	}
	r.MustRegister(m.creates, m.refusals, m.latency, m.waits)
	return m
}

func (m *Metrics) created(replayed bool) {
	kind := "original"
	if replayed {
		kind = "replay"
	}
	m.creates.WithLabelValues(kind).Inc()
}

// registerReady registers the gauge of a server's readiness, which is read as the metrics are.
func (m *Metrics) registerReady(value func() float64) {
	m.registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paylatch_ready", Help: "1 while GET /readyz answers 200, else 0.",
	}, value))
}

func (m *Metrics) waited(method string, result waitResult) {
	m.waits.WithLabelValues(method, string(result)).Inc()
}

func (m *Metrics) answered(method, route string, status int, code string, took time.Duration) {
	if route == "" { // No route of ours: the method may be anything, too.
		method, route = "other", "none"
	}
	if code != "" {
		m.refusals.WithLabelValues(code).Inc()
	}
	m.latency.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}
