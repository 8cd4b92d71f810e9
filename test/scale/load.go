package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/loadtest"
)

const (
	// readsPerPayment keeps most of a small machine for what is tested.
	readsPerPayment = 3
	// loadMax bounds the load of one step, whatever the step waits for.
	loadMax = 5 * time.Minute
	// auditWait bounds the wait for payments that are not sent yet.
	auditWait = 30 * time.Second
)

// loader makes payments through the balancer and keeps a journal of them.
type loader struct {
	client  *client.Client
	workers int
	path    string // Of the journal.
	journal *journal.Journal
}

func newLoader(workers int) (*loader, error) {
	client, err := client.New(client.Config{
		Servers: []string{serverURL}, APIKey: developmentKey, Connections: max(workers, journal.AuditConnections),
	})
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "paylatch-scale-*.jsonl")
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	journal, err := journal.Open(file.Name())
	return &loader{client: client, workers: workers, path: file.Name(), journal: journal}, err
}

// start starts a load. The returned function ends it and reports it.
func (l *loader) start(ctx context.Context) (stop func() (loadtest.Report, error)) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		report loadtest.Report
		err    error
	}
	done := make(chan result, 1)
	go func() {
		report, err := loadtest.Run(ctx, []*client.Client{l.client}, loadtest.Config{
			Workers: l.workers, Duration: loadMax, Reads: readsPerPayment, Journal: l.journal,
		})
		done <- result{report, err}
	}()
	return func() (loadtest.Report, error) {
		cancel()
		r := <-done
		if r.err == nil && !r.report.Interrupted {
			r.err = fmt.Errorf("the load ended after %s, before the step did", loadMax)
		}
		return r.report, r.err
	}
}

// audit compares the journal with the service and the topic.
func (l *loader) audit(ctx context.Context, access *brokers.Access) (report journal.Report, err error) {
	file, err := os.Open(l.path)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return journal.Audit(ctx, []*client.Client{l.client}, file, journal.AuditConfig{
		Topic: journal.Topic{Brokers: access, Name: topic}, Wait: auditWait,
	})
}

// close removes the journal, or keeps it for the analysis of a failure.
func (l *loader) close(keep bool) error {
	l.client.Close()
	err := l.journal.Close()
	if keep {
		fmt.Fprintln(os.Stderr, "the client's journal:", l.path)
		return err
	}
	return errors.Join(err, os.Remove(l.path))
}
