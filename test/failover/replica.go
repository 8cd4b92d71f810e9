package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/paylatch/paylatch/test/harness"
)

const (
	// poolMax is the replicas' PAYLATCH_DATABASE_CONNECTIONS.
	poolMax = 8
	// partitions is the number of partitions; a replica may own all of them.
	partitions = 6
	// batchMax is small, so that many payments are unsent when a primary is lost.
	batchMax = 50
)

// roleOf is a replica's database user, by which its sessions are recognized.
func roleOf(slot int) string { return fmt.Sprintf("replica%d", slot) }

// replica is a `paylatch serve`, with a link to each PostgreSQL node.
type replica struct {
	harness.Process
	slot  int
	api   int
	links [2]*harness.Link
}

// host is the address of the replica's API.
func (r *replica) host() string { return harness.Address(r.api) }

// logs collects what the replicas' logs say that matters.
type logs struct {
	dir string

	mu     sync.Mutex
	died   []string
	panics []string
}

// follow appends a replica's log to its file, and notes lines that are no log lines, as a panic's.
func (l *logs) follow(slot int, log io.Reader) {
	path := filepath.Join(l.dir, fmt.Sprintf("replica-%d.log", slot))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		l.note(&l.panics, err.Error())
		_, _ = io.Copy(io.Discard, log)
		return
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, _ = file.Write(append(lines.Bytes(), '\n'))
		if !json.Valid(lines.Bytes()) {
			l.note(&l.panics, fmt.Sprintf("replica %d: %s", slot, lines.Text()))
		}
	}
}

func (l *logs) note(list *[]string, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(*list) < examplesMax {
		*list = append(*list, line)
	}
}

// faults returns what must not happen to a replica.
func (l *logs) faults() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(append([]string{}, l.died...), l.panics...)
}

// newReplica makes a replica whose URL names both nodes. Replicas with odd numbers name them in
// the other order.
func (s *stage) newReplica(slot int, take func() int) (*replica, error) {
	r := &replica{slot: slot, api: take()}
	var hosts [2]string
	for i, n := range s.cluster.nodes {
		l, err := harness.NewLink(fmt.Sprintf("replica%d-%s", slot, n.alias), take(), n.port)
		if err != nil {
			return nil, err
		}
		r.links[i], hosts[(i+slot)%2] = l, l.Listen
	}
	r.Binary = s.binary
	r.Env = append(s.settings(roleOf(slot), hosts[0]+","+hosts[1]),
		"PAYLATCH_LISTEN="+r.host(), "PAYLATCH_ADMIN_LISTEN="+harness.Address(take()), "PAYLATCH_TENANT_IN_FLIGHT=0",
		"PAYLATCH_SHOW_POSITION=true",
		fmt.Sprintf("PAYLATCH_DATABASE_CONNECTIONS=%d", poolMax), fmt.Sprintf("PAYLATCH_BATCH_MAX=%d", batchMax))
	r.Follow = func(log io.Reader) { s.logs.follow(slot, log) }
	r.Died = func(pid int, err error) {
		s.logs.note(&s.logs.died, fmt.Sprintf("replica %d, pid %d ended: %v", slot, pid, err))
	}
	return r, nil
}

// close ends the replica.
func (r *replica) close() {
	_ = r.Signal(syscall.SIGCONT)
	_ = r.Kill()
	for _, l := range r.links {
		if l != nil {
			l.Close()
		}
	}
}
