//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// direction says which way a ratio is better.
type direction string

const (
	higher direction = "higher"
	lower  direction = "lower"
)

// line is one line of the table.
type line struct {
	key      string
	work     string
	baseline string
	better   direction
	reach    float64 // What the ratio should be at least, or at most; 0 when nothing was set.
	unit     string  // Of work and baseline.
	gated    bool    // Whether its short form says something: a latency of a few seconds on a shared machine does not.
}

func (l line) reached(ratio float64) bool {
	if l.better == lower {
		return ratio <= l.reach
	}
	return ratio >= l.reach
}

// group is lines that are measured together, since they share work.
type group struct {
	name    string
	lines   []line
	measure func(ctx context.Context, b *bench, short bool) (map[string]figures, error)
}

func (g group) has(key string) bool {
	return slices.ContainsFunc(g.lines, func(l line) bool { return l.key == key })
}

func (g group) gated() bool {
	return slices.ContainsFunc(g.lines, func(l line) bool { return l.gated })
}

// figures are what one line came to: work and baseline of each turn, in the line's unit, and
// whatever else was measured on the way.
type figures struct {
	work, baseline []float64
	raw            map[string]float64
	at             time.Time
}

// ratio is of the medians.
func (f figures) ratio() float64 { return median(f.work) / median(f.baseline) }

// groups are the whole table.
var groups = []group{
	{"create", []line{
		{
			"create_vs_insert", "POST /payments, 64 connections", "INSERT of one row and commit, pgx, 32 connections",
			higher, 1.5, "/s", true,
		},
		{
			"create_vs_plain", "POST /payments, 64 connections", "plain handler: one INSERT per request, pgxpool",
			higher, 3, "/s", true,
		},
	}, measureCreate},
	{"create over TLS", []line{
		{"create_tls_vs_plain", "POST /payments over TLS 1.3, 64 connections", "in clear", higher, 0, "/s", false},
	}, measureTLS},
	{"status", []line{
		{
			"status_vs_constant", "GET /payments/{id}, random of 1,000,000",
			"the same server, a constant body, no database", higher, 0.7, "/s", true,
		},
	}, measureStatus},
	{"drain", []line{
		// Half a second of it differs by a factor of two.
		{
			"drain_vs_produce", "drain 200,000, fenced, 4 partitions", "franz-go alone, the same records, acks=all",
			higher, 0.2, "/s", false,
		},
		{"drain_vs_river", "drain 200,000, fenced, 4 partitions", "River, 1,000 workers", higher, 5, "/s", true},
		{
			"drain_vs_watermill", "drain 200,000, fenced, 4 partitions", "Watermill's SQL forwarder, 32 lanes", higher,
			4, "/s", true,
		},
		{"fenced_vs_locked", "drain 200,000, fenced, 4 partitions", "drain locked", higher, 0.9, "/s", true},
	}, measureDrain},
	{"backlog", []line{
		{
			"drain_backlog", "drain of 2,000,000 that wait, statistics of a healthy day",
			"drain of 200,000, fresh and analyzed", higher, 0.9, "/s", true,
		},
		{"drain_hot", "drain 200,000 of one partition", "of 4 partitions", higher, 0.5, "/s", true},
	}, measureBacklog},
	{"snapshot", []line{
		{
			"drain_snapshot", "drain of 200,000 after 500,000 under one open snapshot", "drain of 200,000 before",
			higher, 0.9, "/s", true,
		},
		{"look_snapshot", "a look that finds nothing, after the same", "before", lower, 2, "ms", true},
	}, measureSnapshot},
	{"standby", []line{
		{
			"status_standby", "GET /payments/{id}, a synchronous standby vouches", "the same without a standby", higher,
			0, "/s", false,
		},
		{
			"replay_standby", "POST again, a synchronous standby vouches",
			"the same without a standby", higher, 0, "/s", false,
		},
	}, measureStandby},
	{"first payment", []line{
		{"first_payment", "first create of a fresh process that is ready", "its median create", lower, 5, "ms", false},
	}, measureFirst},
	{"mixed", []line{
		{"mixed_p99", "1 create to 10 reads, at 60 % of the most", "the same at 10 %", lower, 5, "ms", false},
	}, measureMixed},
	{"noisy", []line{
		{"noisy_p99", "a quiet tenant beside one at 10 × its limit", "the quiet tenant alone", lower, 3, "ms", false},
	}, measureNoisy},
	{"end to end", []line{
		{
			"end_to_end_p50", "POST at 200/s to read_committed consumer",
			"one commit + one Kafka transaction, each alone", lower, 3, "ms", false,
		},
	}, measureEndToEnd},
	{"large", []line{
		{
			"create_50m_vs_100k", "create at 50,000,000 stored, half random ids",
			"create at 100,000", higher, 0.9, "/s", false,
		},
		{"status_50m_vs_100k", "GET of a random one of 50,000,000", "of 100,000", higher, 0.9, "/s", false},
		{
			"create_50m_cold", "create at 50,000,000, memory for a quarter of the index",
			"index in memory", higher, 0.8, "/s", false,
		},
		{"create_50m_cold_random", "the same under random keys", "the same, index in memory", higher, 0, "/s", false},
		{
			"status_50m_cold", "GET of a random one of 50,000,000, the same memory", "index in memory", higher, 0, "/s",
			false,
		},
	}, measureLarge},
	{"outage", []line{
		{"outage_p99", "create at 1,000/s while Kafka is away", "before", lower, 0, "ms", false},
		{
			"outage_catch_up", "until all is sent that waited when Kafka was back", "how long it was away", lower, 0,
			"s", false,
		},
	}, measureOutage},
	{"cost", []line{
		{"cpu_200_vs_2000", "all processes, a payment at 200/s, one at a time", "at 2,000/s", lower, 0, "µs", false},
	}, measureCost},
	{"size", []line{
		{"row_bytes", "a payment's row, sent", "the seed's 200 bytes", lower, 1, "B", true},
		{
			"total_bytes", "all a payment takes: heap, indexes, dead, parties, accounts", "the seed's 200 bytes", lower,
			1.6, "B", false,
		},
	}, measureSize},
	{"takeover", []line{
		{
			"take_over_ms", "takeover, from the kill -9 of the owner", "from the end of the owner's session", lower, 0,
			"ms", false,
		},
	}, measureTakeover},
}

// chosen are the groups that have one of the lines; when none is named all, or those whose short
// form says something.
func chosen(keys []string, short bool) []group {
	var some []group
	for _, g := range groups {
		if slices.ContainsFunc(keys, g.has) || len(keys) == 0 && (!short || g.gated()) {
			some = append(some, g)
		}
	}
	return some
}

// measureAll measures the groups and prints each as soon as it is known. A group that
// fails leaves the others be.
func (b *bench) measureAll(ctx context.Context, w io.Writer, some []group, short bool) (map[string]figures, error) {
	all := map[string]figures{}
	var failed error
	tellHead(w, short)
	for _, g := range some {
		measured, err := b.measureGroup(ctx, w, g, short)
		if err != nil {
			failed = errors.Join(failed, err)
			fmt.Fprintln(w, err)
		}
		for key, f := range measured {
			all[key] = f
		}
		if ctx.Err() != nil {
			break
		}
	}
	return all, failed
}

func (b *bench) measureGroup(ctx context.Context, w io.Writer, g group, short bool) (map[string]figures, error) {
	began := time.Now()
	measured, err := g.measure(ctx, b, short)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.name, err)
	}
	for key, f := range measured {
		f.at = time.Now()
		measured[key] = f
	}
	g.print(w, measured, time.Since(began))
	return measured, nil
}
