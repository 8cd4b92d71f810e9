package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/paylatch/paylatch/test/harness"
)

// takeover is the log line of a replica that has acquired a partition, in fenced delivery.
type takeover struct {
	At         time.Time `json:"time"`
	Message    string    `json:"msg"`
	Level      string    `json:"level"`
	Partition  int32     `json:"partition"`
	Generation int64     `json:"generation"`
	Found      int       `json:"found"` // Payments that only Kafka had committed.
	Restored   int       `json:"restored"`
	Took       float64   `json:"took"` // Seconds.
}

// logbook collects what the logs of all replicas contain that matters.
type logbook struct {
	mu        sync.Mutex
	takeovers []takeover
	errors    []string // Lines at level error, the first ones.
	errorsN   int
	died      []string // Processes that ended on their own.
}

// read reads a replica's log to its end, writes it to a file, and notes what matters.
func (b *logbook) read(log io.Reader, file io.Writer, slot int) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, _ = file.Write(append(lines.Bytes(), '\n'))
		var line takeover
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil { // A panic, say.
			b.note(func() { b.error(fmt.Sprintf("replica %d: %s", slot, lines.Text())) })
			continue
		}
		switch {
		case line.Message == "partition acquired":
			b.note(func() { b.takeovers = append(b.takeovers, line) })
		case line.Level == "ERROR" && line.Message != "request": // The client counts responses 503.
			b.note(func() { b.error(fmt.Sprintf("replica %d: %s", slot, lines.Text())) })
		}
	}
}

func (b *logbook) note(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *logbook) error(line string) {
	b.errorsN++
	if len(b.errors) < examplesMax {
		b.errors = append(b.errors, line)
	}
}

// windows counts the takeovers that found payments.
func (b *logbook) windows() (n int) {
	b.note(func() {
		for _, t := range b.takeovers {
			if t.Found+t.Restored > 0 {
				n++
			}
		}
	})
	return n
}

// loss is a kill -9: when it was, and which partitions the replica owned.
type loss struct {
	at    time.Time
	owned []int32
}

// replica is a `paylatch serve` that may be down. Its addresses and links stay the same.
type replica struct {
	harness.Process
	slot  int
	api   int
	admin int
	links []*harness.Link // To PostgreSQL, then to each broker.
}

func (r *replica) postgres() *harness.Link { return r.links[0] }

func (r *replica) kafka() []*harness.Link { return r.links[1:] }

// follow appends the log of one process to the slot's file.
func (s *stage) follow(slot int, log io.Reader) {
	path := filepath.Join(s.dir, fmt.Sprintf("replica-%d.log", slot))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		s.log.note(func() { s.log.error(err.Error()) })
		_, _ = io.Copy(io.Discard, log)
		return
	}
	s.log.read(log, file, slot)
	_ = file.Close()
}

// shutdownTimeout is the replicas' PAYLATCH_SHUTDOWN_TIMEOUT.
const shutdownTimeout = 8 * time.Second

// stopTimeout is how long a clean stop may take before the process is killed.
const stopTimeout = shutdownTimeout + 5*time.Second

// fleet is all replicas, and which of them are held by a fault.
type fleet struct {
	replicas []*replica

	mu       sync.Mutex
	process  []bool // A fault holds the process.
	absent   []bool // Scaled down.
	postgres []bool // A fault holds the link to PostgreSQL.
	kafka    []bool // A fault holds the links to Kafka.
}

func newFleet(replicas []*replica) *fleet {
	n := len(replicas)
	return &fleet{
		replicas: replicas, process: make([]bool, n), absent: make([]bool, n),
		postgres: make([]bool, n), kafka: make([]bool, n),
	}
}

// targetTimeout is how long a fault waits for a target.
const targetTimeout = 15 * time.Second

// try calls take until it returns true, for targetTimeout at most, and reports whether it did.
func (f *fleet) try(ctx context.Context, take func() bool) bool {
	return harness.Eventually(ctx, targetTimeout, "a target", func(context.Context) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return harness.Holds(take(), nil)
	}) == nil
}

// takeProcess holds a process that runs: the wished one, or the next. It leaves one process that no
// fault holds, so that there is a successor.
func (f *fleet) takeProcess(ctx context.Context, wish int) (slot int, ok bool) {
	ok = f.try(ctx, func() bool {
		free := 0
		for i := range f.replicas {
			if !f.process[i] && !f.absent[i] {
				free++
			}
		}
		if free < 2 && len(f.replicas) > 1 {
			return false
		}
		return f.first(wish, &slot, func(i int) bool { return !f.process[i] && !f.absent[i] }, f.process)
	})
	return slot, ok
}

// takeLink holds a replica's link to PostgreSQL, or those to Kafka.
func (f *fleet) takeLink(ctx context.Context, wish int, held []bool) (slot int, ok bool) {
	ok = f.try(ctx, func() bool {
		return f.first(wish, &slot, func(i int) bool { return !held[i] && !f.absent[i] }, held)
	})
	return slot, ok
}

// first holds the first slot from the wished one on that is fit.
func (f *fleet) first(wish int, slot *int, fit func(int) bool, held []bool) bool {
	for k := range f.replicas {
		i := (wish + k) % len(f.replicas)
		if fit(i) {
			held[i], *slot = true, i
			return true
		}
	}
	return false
}

// holdIfFree holds a slot unless another fault does, and reports whether it now holds it.
func (f *fleet) holdIfFree(slot int, held []bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if held[slot] {
		return false
	}
	held[slot] = true
	return true
}

func (f *fleet) release(slot int, held []bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held[slot] = false
}

// takeTwo holds two slots that run, or the two that are absent. If they run, it leaves one more.
func (f *fleet) takeTwo(ctx context.Context, wish int, absent bool) (slots []int, ok bool) {
	ok = f.try(ctx, func() bool {
		slots = slots[:0]
		if slices.Contains(f.absent, true) != absent {
			return false
		}
		free := 0
		for k := range f.replicas {
			i := (wish + k) % len(f.replicas)
			if f.process[i] || f.absent[i] != absent {
				continue
			}
			free++
			if len(slots) < 2 {
				slots = append(slots, i)
			}
		}
		if len(slots) < 2 || !absent && free < 3 {
			return false
		}
		for _, i := range slots {
			f.process[i], f.absent[i] = true, !absent
		}
		return true
	})
	return slots, ok
}
