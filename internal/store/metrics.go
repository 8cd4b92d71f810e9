package store

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collectTimeout bounds what a scrape asks the database.
const collectTimeout = 2 * time.Second

var (
	unsentDesc = prometheus.NewDesc("paylatch_payments_unsent",
		"Payments created and not yet sent, by partition; counted up to 10000.", []string{"partition"}, nil)
	oldestDesc = prometheus.NewDesc("paylatch_payments_oldest_unsent_seconds",
		"Age of the oldest unsent payment of all partitions; 0 when there is none. "+
			"Every replica reports the same: aggregate with max, not sum.", nil, nil)
	stateDesc = prometheus.NewDesc("paylatch_partitions", "Partitions of the topic, by state.", []string{"state"},
		nil)
	unownedDesc = prometheus.NewDesc("paylatch_partitions_unowned",
		"Active partitions that no sender owns now. Every replica reports the same: aggregate with max, not sum.", nil,
		nil)
	upDesc = prometheus.NewDesc("paylatch_database_up", "Whether the database answered this scrape.", nil, nil)
)

// Collector reports to Prometheus, at each scrape, how emission stands in the database.
type Collector struct {
	store *Store
	seen  sightings
}

// NewCollector returns a collector of the store.
func NewCollector(s *Store) *Collector {
	return &Collector{store: s, seen: sightings{of: map[int32]sighting{}}}
}

// Describe implements prometheus.Collector.
func (*Collector) Describe(out chan<- *prometheus.Desc) {
	out <- unsentDesc
	out <- oldestDesc
	out <- stateDesc
	out <- unownedDesc
	out <- upDesc
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	backlog, err := c.store.Backlog(ctx)
	var owners map[int32]int32
	if err == nil {
		owners, err = c.store.Owners(ctx)
	}
	if err != nil {
		out <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, 0)
		return
	}
	out <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, 1)
	var oldest time.Duration
	states, unowned := map[State]int{Active: 0, Halted: 0}, 0
	for _, b := range backlog {
		oldest = max(oldest, b.OldestAge, c.seen.waiting(b.Partition, b.OldestSeq))
		states[b.State]++
		if _, owned := owners[b.Partition]; b.State == Active && !owned {
			unowned++
		}
		out <- prometheus.MustNewConstMetric(unsentDesc, prometheus.GaugeValue, float64(b.Unsent),
			strconv.Itoa(int(b.Partition)))
	}
	out <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, oldest.Seconds())
	out <- prometheus.MustNewConstMetric(unownedDesc, prometheus.GaugeValue, float64(unowned))
	for state, n := range states {
		out <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, float64(n), string(state))
	}
}
