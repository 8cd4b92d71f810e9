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

// takeOver is what a replica logs when it has taken a partition over, in fenced delivery.
type takeOver struct {
	At         time.Time `json:"time"`
	Message    string    `json:"msg"`
	Level      string    `json:"level"`
	Partition  int32     `json:"partition"`
	Generation int64     `json:"generation"`
	Found      int       `json:"found"` // Payments that Kafka had committed and PostgreSQL had not.
	Restored   int       `json:"restored"`
	TookMS     int64     `json:"took_ms"`
}

// logbook is what all replicas have logged that matters.
type logbook struct {
	mu        sync.Mutex
	takeOvers []takeOver
	errors    []string // Lines at level error, the first ones.
	errorsN   int
	died      []string // Processes that ended without our doing.
}

// read follows a replica's log, writes it to a file, and notes what matters.
func (b *logbook) read(log io.Reader, file io.Writer, slot int) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, _ = file.Write(append(lines.Bytes(), '\n'))
		var line takeOver
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil { // A panic, say.
			b.note(func() { b.error(fmt.Sprintf("replica %d: %s", slot, lines.Text())) })
			continue
		}
		switch {
		case line.Message == "partition acquired":
			b.note(func() { b.takeOvers = append(b.takeOvers, line) })
		case line.Level == "ERROR" && line.Message != "request": // A request answered with 503 is the client's to count.
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

// windows counts the take-overs that found something.
func (b *logbook) windows() (n int) {
	b.note(func() {
		for _, t := range b.takeOvers {
			if t.Found+t.Restored > 0 {
				n++
			}
		}
	})
	return n
}

// loss is a kill -9: when, and of whose owner.
type loss struct {
	at    time.Time
	owned []int32
}

// replica is a slot in which `paylatch serve` runs, or not. Its addresses and links stay the same.
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
	file, err := os.OpenFile(filepath.Join(s.dir, fmt.Sprintf("replica-%d.log", slot)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		s.log.note(func() { s.log.error(err.Error()) })
		_, _ = io.Copy(io.Discard, log)
		return
	}
	s.log.read(log, file, slot)
	_ = file.Close()
}

// shutdownTimeout is what a replica is told to take at most for a clean stop.
const shutdownTimeout = 8 * time.Second

// stopTimeout is how long a clean stop may take before the process is killed.
const stopTimeout = shutdownTimeout + 5*time.Second

// fleet is all slots, and who of them is in the hands of a fault.
type fleet struct {
	replicas []*replica

	mu       sync.Mutex
	process  []bool // A fault has the process in hand.
	absent   []bool // Scaled down.
	postgres []bool // A fault has the link to PostgreSQL in hand,
	kafka    []bool // or those to Kafka.
}

func newFleet(replicas []*replica) *fleet {
	n := len(replicas)
	return &fleet{replicas: replicas, process: make([]bool, n), absent: make([]bool, n), postgres: make([]bool, n), kafka: make([]bool, n)}
}

// patience is how long a fault waits for somebody to hit.
const patience = 15 * time.Second

// try repeats until it succeeds, ctx ends, or patience does.
func (f *fleet) try(ctx context.Context, take func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ctx.Err() == nil {
		f.mu.Lock()
		ok := take()
		f.mu.Unlock()
		if ok {
			return true
		}
		harness.Pause(ctx, 50*time.Millisecond)
	}
	return false
}

// takeProcess gives a fault one that runs: the wished one, or the next. One other always goes on undisturbed, so that there is somebody to take over.
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

// takeLink gives a fault a replica's link to PostgreSQL, or those to Kafka.
func (f *fleet) takeLink(ctx context.Context, wish int, held []bool) (slot int, ok bool) {
	ok = f.try(ctx, func() bool {
		return f.first(wish, &slot, func(i int) bool { return !held[i] && !f.absent[i] }, held)
	})
	return slot, ok
}

// first finds the first slot from the wished one on that is fit, and holds it.
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

// holdIfFree takes a slot's flag if nobody has it.
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

// takeTwo gives scaling two slots that run, or the two that are absent. Two are left to go on.
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
			if free++; len(slots) < 2 {
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
