//go:build linux

// Command bench measures what Paylatch costs, and prints one table. Each line is next to its
// baseline from the same run on the same machine.
//
// Work and baselines alternate (A B A B …): other load of the machine affects both. Medians are
// compared; least and most are shown. Nothing is simulated: `paylatch` is a process of its own,
// PostgreSQL commits to disk and has its default settings except shared_buffers, and Kafka is a
// real broker. Both run in containers if Docker is available. Peers have the settings with which
// they were fastest.
//
//	go run .           measure all lines in full (about half an hour)
//	go run . --record  also write record.json: the full figures, and those of the short form
//	go run . --gate    measure the short form of the gated lines, and compare it with record.json;
//	                   exit code 1 if one is more than 25 % worse
//
// It is for Linux: the load generator uses epoll, and CPU times are read from /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/paylatch/paylatch/internal/embedded"
)

// options are what the command line says.
type options struct {
	lines   []string // Empty: all.
	gate    bool
	record  bool
	short   bool
	profile string
	outage  time.Duration
	file    string
}

func main() {
	embedded.Main() // In the process that owns an embedded PostgreSQL, this never returns.
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		if err := play(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", os.Args[1]+":", err)
			os.Exit(1)
		}
		return
	}
	var o options
	var lines string
	flag.StringVar(&lines, "lines", "", "measure only the lines of these keys, separated by commas, "+
		"and those that are measured together with them")
	flag.BoolVar(&o.gate, "gate", false, "measure the short form and compare it with the record")
	flag.BoolVar(&o.short, "short", false, "measure the short form, "+
		"also of lines that are named and not gated")
	flag.BoolVar(&o.record, "record", false, "write what was measured into the record")
	flag.StringVar(&o.profile, "profile", "", "write CPU and allocation profiles of create, status and drain "+
		"to this directory")
	flag.DurationVar(&o.outage, "outage", time.Minute, "how long Kafka is away in the full form of the outage lines")
	flag.StringVar(&o.file, "file", "record.json", "the record")
	flag.Parse()
	if lines != "" {
		o.lines = strings.Split(lines, ",")
	}
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (o options) check() error {
	for _, key := range o.lines {
		if !slices.ContainsFunc(groups, func(g group) bool { return g.has(key) }) {
			return fmt.Errorf("--lines: there is no line %q", key)
		}
	}
	if o.gate && o.record {
		return errors.New("--gate compares with the record and --record changes it: one at a time")
	}
	if o.short && o.record {
		return errors.New("--record writes the figures of both forms: without --short")
	}
	return nil
}

// run measures what the options name.
func run(ctx context.Context, o options) (err error) {
	recorded, err := readRecord(o.file)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o.profile, o.outage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if o.gate {
		return b.gate(ctx, os.Stdout, recorded, o.lines)
	}
	full, failed := b.measureAll(ctx, os.Stdout, chosen(o.lines, o.short), o.short)
	if !o.record || ctx.Err() != nil {
		return failed
	}
	// The gate compares like with like. Other lines need no short form.
	gated := slices.DeleteFunc(chosen(o.lines, true), func(g group) bool { return !g.gated() })
	short, shortFailed := b.measureAll(ctx, os.Stdout, gated, true)
	recorded.take(full, short, b.commit(ctx))
	return errors.Join(failed, shortFailed, recorded.write(o.file))
}
