package main

import (
	"math/rand/v2"
	"time"
)

// kind is a kind of fault. The report counts by kind, and each must have fired.
type kind string

const (
	killed     kind = "kill -9"
	stopped    kind = "SIGSTOP, SIGCONT"
	zombie     kind = "zombie"
	restarted  kind = "clean restart"
	scaledDown kind = "scale down by two"
	scaledUp   kind = "scale up by two"

	postgresStopped kind = "PostgreSQL immediate stop"
	brokerKilled    kind = "broker kill -9"

	postgresCut       kind = "PostgreSQL link cut"
	postgresReset     kind = "PostgreSQL link reset"
	postgresBlackhole kind = "PostgreSQL link black hole"
	postgresLatency   kind = "PostgreSQL link latency"
	postgresBandwidth kind = "PostgreSQL link bandwidth"
	kafkaCut          kind = "Kafka link cut"
	kafkaReset        kind = "Kafka link reset"
	kafkaBlackhole    kind = "Kafka link black hole"
	kafkaLatency      kind = "Kafka link latency"
	kafkaBandwidth    kind = "Kafka link bandwidth"
	kafkaIsolated     kind = "replica cut off from Kafka"
)

// share is how often a kind is in a bag. Faults are drawn from bags, so that each kind fires soon
// and the rare ones stay rare. An outage of PostgreSQL or of the only broker stops all replicas,
// and while nothing is sent no kill hits the window.
type share struct {
	kind kind
	n    int
}

func bagOf(brokers int) []share {
	brokerKills := 1
	if brokers > 1 {
		brokerKills = 3 // The others go on.
	}
	return []share{
		{killed, 15},
		{stopped, 4},
		{zombie, 5},
		{restarted, 3},
		{scaledDown, 1},
		{scaledUp, 1},
		{postgresStopped, 2},
		{brokerKilled, brokerKills},
		{postgresCut, 3},
		{postgresReset, 2},
		{postgresBlackhole, 2},
		{postgresLatency, 3},
		{postgresBandwidth, 2},
		{kafkaCut, 3},
		{kafkaReset, 2},
		{kafkaBlackhole, 2},
		{kafkaLatency, 2},
		{kafkaBandwidth, 2},
		{kafkaIsolated, 3},
	}
}

// fault is one planned fault: all that is random about it. What it hits also depends on which
// replicas are available at that time.
type fault struct {
	number int
	at     time.Duration // After the load began.
	kind   kind
	victim int           // A replica's slot, or a partition whose leader is the target.
	length time.Duration // How long it lasts.
	slow   bool          // The link to PostgreSQL is slowed down first, which widens the window.
	side   int           // Of a link: 0 responses, 1 requests, 2 both.
	amount int64         // Milliseconds of latency, or KB/s.
}

const (
	// One fault every 0.65 s on average, since some find no target.
	intervalMin = 400 * time.Millisecond
	intervalMax = 900 * time.Millisecond
	// isolatedLong is longer than a replica without Kafka may keep its partitions: a batch and a
	// takeover that fail.
	isolatedLong = 15 * time.Second
	// slowLatencyMS is the latency of a link before a kill. A batch then waits for PostgreSQL for
	// nearly all of its time, a quarter of it in the window.
	slowLatencyMS = 30
)

// isLong reports whether a replica is cut off from Kafka for long, without an error. In that case
// it could starve its partitions.
func (f fault) isLong() bool { return f.kind == kafkaIsolated && f.length >= isolatedLong }

// plan draws the faults of a run: the same for the same seed.
func plan(seed uint64, duration time.Duration, brokers int) []fault {
	r := rand.New(rand.NewPCG(seed, 0xc4a05))
	var faults []fault
	var bag []kind
	down := false
	for at := span(r, intervalMin, intervalMax); at < duration; at += span(r, intervalMin, intervalMax) {
		if len(bag) == 0 {
			for _, s := range bagOf(brokers) {
				for range s.n {
					bag = append(bag, s.kind)
				}
			}
			r.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		f := draw(r, bag[0])
		if f.kind == scaledDown || f.kind == scaledUp { // Alternately.
			f.kind, down = scaledDown, !down
			if !down {
				f.kind = scaledUp
			}
		}
		bag = bag[1:]
		f.number, f.at = len(faults)+1, at
		faults = append(faults, f)
	}
	return faults
}

// draw draws one fault. It takes the same count of numbers from r for each kind, so that a change
// of one kind does not change the others.
func draw(r *rand.Rand, k kind) fault {
	f := fault{kind: k, victim: r.IntN(1 << 16), slow: r.IntN(5) > 0, side: r.IntN(3)}
	short, long := span(r, 100*time.Millisecond, 1500*time.Millisecond), span(r, 200*time.Millisecond, 4*time.Second)
	amount, length := r.Int64N(100), r.IntN(4)
	f.length = short
	switch k {
	case stopped:
		f.length = long
		if length == 0 { // Longer than PostgreSQL keeps a silent session.
			f.length = 2 * long
		}
	case kafkaIsolated:
		f.length = 2*time.Second + long
		if length == 0 { // Up to 27 s.
			f.length = isolatedLong + 3*long
		}
	case postgresBlackhole, kafkaBlackhole:
		f.length = long
	case postgresLatency, kafkaLatency:
		f.length, f.amount = long, 5+amount
	case postgresBandwidth, kafkaBandwidth:
		f.length, f.amount = long, 4+amount
	}
	return f
}

func span(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}
