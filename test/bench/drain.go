//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

// drainMax bounds one drain.
const drainMax = 3 * time.Minute

// measureDrain compares a drain with what the same records cost otherwise. Every turn has a
// database and a topic of its own, and at its end all records must have arrived.
func measureDrain(ctx context.Context, b *bench, short bool) (map[string]figures, error) {
	const whole = 200_000
	l, count, peerCount := lengthOf(short, length{turns: 5}, length{turns: 3}), int64(whole), int64(whole)
	if short {
		count, peerCount = 100_000, 20_000 // Each takes a second or two then.
	}
	if err := b.warmBroker(ctx); err != nil {
		return nil, err
	}
	source, err := b.backlog(ctx, store.DeliveryFenced, whole) // Its records are what the others emit.
	if err != nil {
		return nil, err
	}
	if _, err := b.drainOne(ctx, source, store.DeliveryFenced, whole, ""); err != nil {
		return nil, err
	}
	ours := func(delivery store.Delivery) func(context.Context) (result, error) {
		return func(ctx context.Context) (result, error) { return b.drainFresh(ctx, delivery, count, "") }
	}
	from := func(role string, count int64) func(context.Context) (result, error) {
		return func(ctx context.Context) (result, error) { return b.emitFrom(ctx, role, source, count) }
	}
	turns, err := alternate(ctx, l.turns,
		// Half a second.
		contender{"fenced", ours(store.DeliveryFenced)}, contender{"locked", ours(store.DeliveryLocked)},
		contender{"produce", from("produce", whole)},
		contender{"river", from("river", peerCount)}, contender{"watermill", from("watermill", peerCount)})
	if err != nil {
		return nil, err
	}
	lines := map[string]figures{
		"drain_vs_produce":   turns.figures("fenced", "produce", result.rate),
		"drain_vs_river":     turns.figures("fenced", "river", result.rate),
		"drain_vs_watermill": turns.figures("fenced", "watermill", result.rate),
		"fenced_vs_locked":   turns.figures("fenced", "locked", result.rate),
	}
	turns.perRequest("fenced", lines["drain_vs_produce"].raw)
	turns.perRequest("produce", lines["drain_vs_produce"].raw)
	turns.perRequest("river", lines["drain_vs_river"].raw)
	turns.perRequest("watermill", lines["drain_vs_watermill"].raw)
	turns.perRequest("locked", lines["fenced_vs_locked"].raw)
	if b.profile != "" {
		if _, err := b.drainFresh(ctx, store.DeliveryFenced, 5*count, filepath.Join(b.profile, "drain")); err != nil {
			return nil, err
		}
	}
	return lines, source.drop(ctx)
}

// backlog is an installation with so many payments to be sent.
func (b *bench) backlog(ctx context.Context, delivery store.Delivery, count int64) (*installation, error) {
	i, err := b.install(ctx, delivery)
	if err != nil {
		return nil, err
	}
	return i, i.fill(ctx, count, false)
}

func (b *bench) drainFresh(ctx context.Context, delivery store.Delivery, count int64, profile string,
) (r result, err error) {
	i, err := b.backlog(ctx, delivery, count)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, i.drop(ctx)) }()
	return b.drainOne(ctx, i, delivery, count, profile)
}

func (b *bench) drainOne(ctx context.Context, i *installation, delivery store.Delivery, count int64,
	profile string,
) (result, error) {
	before := treeCPU(b.postgres)
	r, err := do(ctx, "drain", job{
		URL: i.URL, Broker: i.Broker, Topic: i.Topic, Delivery: string(delivery),
		Count: int(count), Profile: profile,
	})
	r.PostgresCPU = treeCPU(b.postgres) - before
	if err != nil {
		return r, err
	}
	return r, b.arrived(ctx, i.Topic, count)
}

// emitFrom has a role emit so many of the source's records, from a database of its own where it
// needs one, to a topic of its own.
func (b *bench) emitFrom(ctx context.Context, role string, source *installation, count int64) (r result, err error) {
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, i.drop(ctx)) }()
	before := treeCPU(b.postgres)
	r, err = do(ctx, role, job{URL: i.URL, Broker: i.Broker, Topic: i.Topic, Source: source.Topic, Count: int(count)})
	r.PostgresCPU = treeCPU(b.postgres) - before
	if err != nil {
		return r, err
	}
	return r, b.arrived(ctx, i.Topic, count)
}

// arrived reads a topic to its end: each of so many payments must be there. Duplicates are not
// checked, since the peers do not promise that there are none.
func (b *bench) arrived(ctx context.Context, topic string, count int64) error {
	keys := map[string]bool{}
	err := readAll(ctx, b.installed.Broker, topic, func(r kafka.Record) error {
		keys[string(r.Key)] = true
		return nil
	})
	if err == nil && int64(len(keys)) != count {
		err = fmt.Errorf("%d of %d payments are in the topic", len(keys), count)
	}
	return err
}

// readAll hands each committed record of a topic to each, up to its present end.
func readAll(ctx context.Context, broker, topic string, each func(kafka.Record) error) error {
	cluster, err := kafka.NewCluster(brokers.At(broker))
	if err != nil {
		return err
	}
	defer cluster.Close()
	ranges, err := cluster.Ranges(ctx, topic)
	if err != nil {
		return err
	}
	for n, r := range ranges {
		if err := cluster.Read(ctx, topic, int32(n), r.Start, r.End, each); err != nil {
			return err
		}
	}
	return nil
}

// drain plays the role: one sender, as `paylatch sender` has, sends the backlog.
func drain(ctx context.Context, j job, report func(any) error) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	metrics := newRegistry()
	s, closeAll, err := newSender(j, metrics, func(*sender.Config) {})
	if err != nil {
		return err
	}
	defer closeAll()
	stopProfile, err := startProfile(j.Profile)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { s.Run(running) })
	watch := newStopwatch(j.Count)
	var countErr error
	work.Go(func() {
		for n := 0; running.Err() == nil && countErr == nil; time.Sleep(time.Millisecond) {
			n, countErr = metrics.sent()
			if countErr != nil {
				cancel()
				return
			}
			watch.at(n)
		}
	})
	r, err := watch.result(ctx)
	err = errors.Join(err, stopProfile())
	stop()
	work.Wait()
	err = errors.Join(err, countErr)
	if err != nil {
		return err
	}
	return report(r)
}

// newSender makes the sender that `paylatch sender` has.
func newSender(j job, metrics prometheus.Registerer, change func(*sender.Config),
) (s *sender.Sender, closeAll func(), err error) {
	const pooled = 16 // The default of PAYLATCH_DATABASE_CONNECTIONS.
	payments, err := store.Open(context.Background(), j.URL, pooled)
	if err != nil {
		return nil, nil, err
	}
	access := brokers.At(j.Broker)
	cluster, err := kafka.NewCluster(access)
	if err != nil {
		return nil, nil, err
	}
	locked := kafka.NewLocked(access, j.Topic, store.PublishTimeout)
	c := sender.Config{
		Store: payments, Delivery: store.Delivery(j.Delivery), Log: cluster, Encoder: kafka.NewEncoder("/paylatch"),
		Publisher: locked,
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fencer:    sender.FencerOf(kafka.NewFencer(access, j.Topic, store.PublishTimeout)),
		Metrics:   sender.NewMetrics(metrics),
	}
	change(&c)
	return sender.New(c), func() { locked.Close(); cluster.Close(); payments.Close() }, nil
}

// registry finds, among the metrics that a sender registers, how many payments it has marked. To
// gather all of them each millisecond would cost a tenth of the drain.
type registry struct {
	*prometheus.Registry
	marked prometheus.Counter
}

func newRegistry() *registry { return &registry{Registry: prometheus.NewRegistry()} }

// MustRegister implements prometheus.Registerer.
func (r *registry) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if counter, ok := c.(prometheus.Counter); ok &&
			strings.Contains(counter.Desc().String(), `"paylatch_payments_sent_total"`) {
			r.marked = counter
		}
	}
	r.Registry.MustRegister(all...)
}

// sent reads how many payments the sender has marked.
func (r *registry) sent() (int, error) {
	var m dto.Metric
	if r.marked == nil {
		return 0, errors.New("the sender counts no payments that it has sent")
	}
	err := r.marked.Write(&m)
	return int(m.GetCounter().GetValue()), err
}

// startProfile begins this process's CPU profile, if one is wanted; the returned function writes
// it, and what was allocated.
func startProfile(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	cpu, err := os.Create(name + ".cpu.pprof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(name + ".allocs.pprof")
		if err != nil {
			return err
		}
		runtime.GC() // The profile is as of the last collection.
		return errors.Join(cpu.Close(), pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close())
	}, nil
}
