package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/paylatch/paylatch/internal/payclient"
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
	client  *payclient.Client
	workers int
	path    string // Of the journal.
	journal *payclient.Journal
}

func newLoader(workers int) (*loader, error) {
	client, err := payclient.New(payclient.Config{
		Servers: []string{serverURL}, Key: developmentKey, Connections: max(workers, payclient.AuditConnections),
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
	journal, err := payclient.OpenJournal(file.Name())
	return &loader{client: client, workers: workers, path: file.Name(), journal: journal}, err
}

// start starts a load. The returned function ends it and reports it.
func (l *loader) start(ctx context.Context) (stop func() (payclient.Report, error)) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		report payclient.Report
		err    error
	}
	done := make(chan result, 1)
	go func() {
		report, err := payclient.Load(ctx, []*payclient.Client{l.client}, payclient.LoadConfig{
			Workers: l.workers, Duration: loadMax, Reads: readsPerPayment, Journal: l.journal,
		})
		done <- result{report, err}
	}()
	return func() (payclient.Report, error) {
		cancel()
		r := <-done
		if r.err == nil && !r.report.Interrupted {
			r.err = fmt.Errorf("the load ended after %s, before the step did", loadMax)
		}
		return r.report, r.err
	}
}

// audit compares the journal with the service and the topic.
func (l *loader) audit(ctx context.Context, brokers []string) (report payclient.AuditReport, err error) {
	journal, err := os.Open(l.path)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	return payclient.Audit(ctx, []*payclient.Client{l.client}, journal, payclient.AuditConfig{
		Topic: payclient.Topic{Brokers: brokers, Name: topic}, Wait: auditWait,
	})
}

// close removes the journal, or keeps it for whoever looks into a failure.
func (l *loader) close(keep bool) error {
	l.client.Close()
	err := l.journal.Close()
	if keep {
		fmt.Fprintln(os.Stderr, "the client's journal:", l.path)
		return err
	}
	return errors.Join(err, os.Remove(l.path))
}
