//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// result is the result of one run.
type result struct {
	Done    int64   // Responses received, rows inserted, or records acknowledged.
	Seconds float64 // They took.
	Refused int64   // Responses 429, where they are expected.

	All, Create, Read latency // Of requests.

	ClientCPU, ServerCPU, PostgresCPU float64 // Seconds.
}

func (r result) rate() float64 { return float64(r.Done) / r.Seconds }

// latency is milliseconds at percentiles, from the time at which a request should have been sent.
type latency struct{ P50, P90, P95, P99, P999, Max float64 }

// job describes the work of a role; each role reads the fields that it needs.
type job struct {
	Order   order  // generate
	Profile string // Where a CPU and an allocation profile go; empty: none is taken.

	// insert, plain, constant, drain and the peers
	URL, APIKey, Broker, Topic, Source string
	Delivery                           string
	Tenant                             string
	Count                              int
	Connections                        int
	For                                time.Duration
	TLS                                bool // create
}

// roles are the parts of this program that run as processes of their own, so that each has its own
// CPU time and memory. A server responds with its address, and serves until its input ends.
var roles = map[string]func(ctx context.Context, j job, report func(any) error) error{
	"generate":  generate,
	"insert":    insert,
	"plain":     servePlain,
	"constant":  serveConstant,
	"drain":     drain,
	"produce":   produce,
	"river":     river,
	"watermill": watermillForward,
	"send":      send,
	"create":    createBlocking,

	"drain_snapshot": drainSnapshot,
	"look_snapshot":  lookSnapshot,
}

// gcPercent is what cmd/paylatch sets; every contender has it.
const gcPercent = 400

// play runs a role. It reads the job and writes the result, both as JSON.
func play(name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return err
	}
	debug.SetGCPercent(gcPercent)
	return roles[name](ctx, j, json.NewEncoder(os.Stdout).Encode)
}

// process is a process of ours that runs.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// endsWithUs lets the kernel end a process when we die ourselves, so that none is left behind.
var endsWithUs = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

// roleCommand prepares a process of this program.
func roleCommand(ctx context.Context, name string, j job) (*process, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, os.Args[0], name)}
	p.cmd.Stdin, p.cmd.Stderr, p.cmd.SysProcAttr = bytes.NewReader(text), &p.stderr, endsWithUs
	return p, nil
}

// do runs a role to its end and returns its result.
func do(ctx context.Context, name string, j job) (r result, err error) {
	err = doInto(ctx, name, j, &r)
	return r, err
}

// doInto runs a role to its end and decodes its result into to.
func doInto(ctx context.Context, name string, j job, to any) error {
	p, err := roleCommand(ctx, name, j)
	if err != nil {
		return err
	}
	out, err := p.cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, p.stderr.String())
	}
	return json.Unmarshal(out, to)
}

// server is a process that serves HTTP.
type server struct {
	process
	address string
	admin   string // Of /debug/pprof; empty where there is none.
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// end stops the server and waits for it.
func (s *server) end() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %.2000s", s.cmd.Args, err, s.stderr.String())
	}
	return nil
}

// startRole starts a role that serves.
func startRole(ctx context.Context, name string, j job) (*server, error) {
	p, err := roleCommand(context.WithoutCancel(ctx), name, j)
	if err != nil {
		return nil, err
	}
	s := &server{process: *p}
	s.cmd.Stderr = &s.stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(out).Decode(&s.address); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), s.end())
	}
	return s, nil
}
