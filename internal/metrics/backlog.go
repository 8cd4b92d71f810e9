// Package metrics reports to Prometheus what the database has on record of emission.
package metrics

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/store"
)

// collectTimeout bounds the queries of one scrape.
const collectTimeout = 2 * time.Second

var (
	unsentDesc = prometheus.NewDesc("paylatch_payments_unsent",
		"Payments created and not yet sent, by partition; counted up to 10000.", []string{"partition"}, nil)
	oldestDesc = prometheus.NewDesc("paylatch_payments_oldest_unsent_seconds",
		"Age of the oldest unsent payment of all partitions; 0 when there is none. "+
			"Every replica reports the same: aggregate with max, not sum.", nil, nil)
	stateDesc = prometheus.NewDesc("paylatch_partitions", "Partitions of the topic, by state.",
		[]string{"state"}, nil)
	unownedDesc = prometheus.NewDesc("paylatch_partitions_unowned",
		"Active partitions that no sender owns now. "+
			"Every replica reports the same: aggregate with max, not sum.", nil, nil)
	upDesc = prometheus.NewDesc("paylatch_database_up", "Whether the database answered this scrape.", nil, nil)
)

// Backlog is a collector that queries the database at each scrape. If a query fails, it reports
// paylatch_database_up as 0 and nothing else. Safe for concurrent use.
type Backlog struct {
	store  *store.Store
	oldest oldest
	// collecting is held during a scrape, so that scrapes use one connection, however many come.
	collecting sync.Mutex
}

// NewBacklog returns a collector of the store.
func NewBacklog(s *store.Store) *Backlog {
	return &Backlog{store: s, oldest: oldest{seen: map[int32]sighting{}}}
}

// Describe implements prometheus.Collector.
func (*Backlog) Describe(out chan<- *prometheus.Desc) {
	out <- unsentDesc
	out <- oldestDesc
	out <- stateDesc
	out <- unownedDesc
	out <- upDesc
}

// Collect implements prometheus.Collector.
func (c *Backlog) Collect(out chan<- prometheus.Metric) {
	c.collecting.Lock()
	defer c.collecting.Unlock()
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
	var age time.Duration
	states, unowned := map[store.State]int{store.StateActive: 0, store.StateHalted: 0}, 0
	for _, b := range backlog {
		age = max(age, b.OldestAge, c.oldest.waiting(b.Partition, b.OldestSeq))
		states[b.State]++
		if _, owned := owners[b.Partition]; b.State == store.StateActive && !owned {
			unowned++
		}
		out <- prometheus.MustNewConstMetric(unsentDesc, prometheus.GaugeValue, float64(b.Unsent),
			strconv.Itoa(int(b.Partition)))
	}
	out <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age.Seconds())
	out <- prometheus.MustNewConstMetric(unownedDesc, prometheus.GaugeValue, float64(unowned))
	for state, n := range states {
		out <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, float64(n), string(state))
	}
}
