//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/testcontainers/testcontainers-go/log"

	"github.com/paylatch/paylatch/test/parts"
)

// root is the repository, from where the bench is run.
const root = "../.."

// bench is all that a run has started.
type bench struct {
	installed *parts.Installed
	dir       string        // Of the program, and what else the run writes.
	binary    string        // paylatch.
	profile   string        // Where profiles are kept; empty: none are taken.
	outage    time.Duration // See options.
	databases int
	postgres  int // The process that all of PostgreSQL descends from; 0 where it is not to be seen from here.
	stored    map[int64]*installation
	warm      bool // The broker is.
}

func newBench(ctx context.Context, profile string, outage time.Duration) (*bench, error) {
	log.SetDefault(log.NewNoopLogger()) // Only errors of containers are printed.
	b := &bench{profile: profile, outage: outage, stored: map[int64]*installation{}}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	fmt.Printf("parts: %s; commit %s\n", b.installed.Kind, b.commit(ctx))
	return b, nil
}

func (b *bench) start(ctx context.Context) (err error) {
	b.dir, err = os.MkdirTemp("", "paylatch-bench-")
	if err != nil {
		return err
	}
	if b.profile != "" {
		if err := os.MkdirAll(b.profile, 0o755); err != nil {
			return err
		}
	}
	b.binary = filepath.Join(b.dir, "paylatch")
	build := exec.CommandContext(ctx, "go", "build", "-C", root, "-buildvcs=false", "-o", b.binary, "./cmd/paylatch")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	b.installed, err = parts.Install(ctx)
	if err != nil {
		return err
	}
	b.postgres, err = serverProcess(ctx, b.installed.Postgres)
	return err
}

func (b *bench) close() error {
	var err error
	if b.installed != nil {
		err = b.installed.Close() // With all databases and topics.
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// commit names what is measured.
func (b *bench) commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// length is how long and how often something is measured.
type length struct {
	turns int
	each  time.Duration
}

// lengthOf chooses between the full and the short form.
func lengthOf(short bool, full, brief length) length {
	if short {
		return brief
	}
	return full
}

// contender is one of those whose runs alternate.
type contender struct {
	name string
	turn func(ctx context.Context) (result, error)
}

// results are the runs of each contender.
type results map[string][]result

// alternate runs the contenders in rotation: A B C A B C …. Other load of the machine then
// affects all of them.
func alternate(ctx context.Context, turns int, contenders ...contender) (results, error) {
	all := results{}
	for range turns {
		for _, c := range contenders {
			r, err := c.turn(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			all[c.name] = append(all[c.name], r)
		}
	}
	return all, nil
}

// figures makes a line of two contenders by one of their figures.
func (r results) figures(work, baseline string, of func(result) float64) figures {
	return figures{work: r.each(work, of), baseline: r.each(baseline, of), raw: map[string]float64{}}
}

func (r results) each(name string, of func(result) float64) []float64 {
	var out []float64
	for _, turn := range r[name] {
		out = append(out, of(turn))
	}
	return out
}

// median of a contender's figure.
func (r results) median(name string, of func(result) float64) float64 {
	return median(r.each(name, of))
}
