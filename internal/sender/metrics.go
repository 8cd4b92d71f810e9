package sender

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// Metrics counts what senders do. Safe for concurrent use.
type Metrics struct {
	payments      prometheus.Counter
	passes        *prometheus.CounterVec
	batch         prometheus.Histogram
	publish       *prometheus.HistogramVec
	ownedNow      prometheus.Gauge
	open          *prometheus.GaugeVec
	takeOver      prometheus.Histogram
	tail          *prometheus.CounterVec
	createdToSent prometheus.Histogram
	ahead         prometheus.Gauge
	sessions      sessionMetrics
}

// sessionMetrics is about the database connections that senders need.
type sessionMetrics struct {
	needed   prometheus.Gauge
	allowed  prometheus.Gauge
	refusals prometheus.Counter
}

func newSessionMetrics(r prometheus.Registerer) sessionMetrics {
	m := sessionMetrics{
		needed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paylatch_sender_connections_needed",
			Help: "Database connections that the partitions, all senders and their pools need.",
		}),
		allowed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paylatch_sender_connections_allowed",
			Help: "Database connections that the least limit of server, database and role allows.",
		}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paylatch_sender_sessions_refused_total",
			Help: "Database sessions that a sender did not get for lack of connections. " +
				"While this grows, partitions are served in rotation.",
		}),
	}
	r.MustRegister(m.needed, m.allowed, m.refusals)
	return m
}

// NewMetrics registers the metrics of senders. Several senders of one process share them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		payments: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paylatch_payments_sent_total",
			Help: "Payments published and marked sent by this process.",
		}),
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paylatch_sender_passes_total",
			Help: "Batches that were sent, and batches and takeovers that failed.",
		}, []string{"outcome"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "paylatch_sender_batch_payments", Help: "Payments per published batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 6),
		}),
		publish: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "paylatch_sender_publish_seconds",
			Help:    "Time from handing a batch to the broker to its response, by outcome.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}, []string{"outcome"}),
		ownedNow: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paylatch_sender_partitions_owned",
			Help: "Partitions that a sender of this process owns.",
		}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paylatch_sender_undecided_offsets",
			Help: "Offsets between the last stable offset and the high watermark of a partition, " +
				"as of its last takeover (fenced delivery). Alert when it stays above 0.",
		}, []string{"partition"}),
		takeOver: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "paylatch_sender_take_over_seconds",
			Help:    "Time from fencing the last owner of a partition to knowing all of its log (fenced delivery).",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		tail: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paylatch_sender_tail_payments_total",
			Help: "Payments that a takeover found in the log and not in the table: " +
				"marked, or restored with their row.",
		}, []string{"outcome"}),
		createdToSent: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "paylatch_payment_created_to_sent_seconds",
			Help:    "Age of a payment when it is marked sent (this process's clock against the database's).",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
		}),
		sessions: newSessionMetrics(r),
		ahead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paylatch_sender_clock_ahead_seconds",
			Help: "How far this machine's clock is ahead of the database's; negative when it is behind. " +
				"Kafka deletes records by this machine's time.",
		}),
	}
	r.MustRegister(m.ahead, m.payments, m.passes, m.batch, m.publish, m.ownedNow, m.open, m.takeOver, m.tail,
		m.createdToSent)
	return m
}

func (m *Metrics) connections(needed, allowed int) {
	m.sessions.needed.Set(float64(needed))
	m.sessions.allowed.Set(float64(allowed))
}

func (m *Metrics) clockAhead(d time.Duration) { m.ahead.Set(d.Seconds()) }

func (m *Metrics) refused() { m.sessions.refusals.Inc() }

func (m *Metrics) taken() { m.ownedNow.Inc() }

func (m *Metrics) released(partition int32) {
	m.ownedNow.Dec()
	m.open.DeleteLabelValues(strconv.Itoa(int(partition)))
}

func (m *Metrics) undecided(partition int32, offsets int64) {
	m.open.WithLabelValues(strconv.Itoa(int(partition))).Set(float64(offsets))
}

func (m *Metrics) tookOver(took time.Duration, tail store.Recovered) {
	m.takeOver.Observe(took.Seconds())
	m.tail.WithLabelValues("marked").Add(float64(tail.Marked))
	m.tail.WithLabelValues("restored").Add(float64(tail.Restored))
}

func (m *Metrics) batchFailed() { m.passes.WithLabelValues("failed").Inc() }

func (m *Metrics) published(took time.Duration, n int, err error) {
	outcome := "acknowledged"
	if err != nil {
		outcome = "failed"
	}
	m.publish.WithLabelValues(outcome).Observe(took.Seconds())
	m.batch.Observe(float64(n))
}

// sent counts a batch that is on record.
func (m *Metrics) sent(payments []payment.Payment) {
	m.payments.Add(float64(len(payments)))
	m.passes.WithLabelValues("sent").Inc()
	now := time.Now()
	for _, p := range payments {
		m.createdToSent.Observe(max(now.Sub(p.CreatedAt).Seconds(), 0))
	}
}
