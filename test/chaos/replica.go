package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
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
		case line.Message == "took the partition over":
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

// replica is a slot in which `paylatch serve` runs, or does not: its addresses and links stay.
type replica struct {
	slot   int
	api    int
	admin  int
	links  []*link // To PostgreSQL, then to each broker.
	binary string
	dir    string
	env    []string
	log    *logbook

	process *exec.Cmd
	ended   chan struct{} // Closed when the process has ended and its log is read.
	wanted  bool          // It runs, unless we say otherwise.

	mu sync.Mutex // Of wanted and process.
}

func (r *replica) postgres() *link { return r.links[0] }

func (r *replica) kafka() []*link { return r.links[1:] }

// start begins a new process in the slot, with its log behind that of the last one.
func (r *replica) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	file, err := os.OpenFile(filepath.Join(r.dir, fmt.Sprintf("replica-%d.log", r.slot)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(r.binary, "serve")
	cmd.Env = append(os.Environ(), r.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us, who end it.
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("replica %d: %w", r.slot, err)
	}
	ended := make(chan struct{})
	r.process, r.ended, r.wanted = cmd, ended, true
	go func() {
		r.log.read(log, file, r.slot)
		err := cmd.Wait()
		r.mu.Lock()
		unasked := r.wanted && r.process == cmd
		r.mu.Unlock()
		if unasked {
			r.log.note(func() {
				r.log.died = append(r.log.died, fmt.Sprintf("replica %d, pid %d: %v", r.slot, cmd.Process.Pid, err))
			})
		}
		_ = file.Close()
		close(ended)
	}()
	return nil
}

// signal sends one to the process; those that end it are noted as ours.
func (r *replica) signal(s syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		r.wanted = false
	}
	if r.process == nil {
		return nil
	}
	return r.process.Process.Signal(s)
}

// kill ends the process as a crash does, and waits for its end.
func (r *replica) kill() error {
	err := r.signal(syscall.SIGKILL)
	r.awaitEnd(10 * time.Second)
	return err
}

// stop asks the process to end, and ends it if it does not.
func (r *replica) stop() error {
	if err := r.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if !r.awaitEnd(shutdownTimeout + 5*time.Second) {
		return r.kill()
	}
	return nil
}

func (r *replica) awaitEnd(d time.Duration) bool {
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	if ended == nil {
		return true
	}
	select {
	case <-ended:
		return true
	case <-time.After(d):
		return false
	}
}

// shutdownTimeout is what a replica is told to take at most for a clean stop.
const shutdownTimeout = 8 * time.Second

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
		pause(ctx, 50*time.Millisecond)
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
