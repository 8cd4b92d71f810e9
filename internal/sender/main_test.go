package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

// patience bounds every wait of these tests. No test asserts how long a wait took.
const patience = 90 * time.Second

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	return ctx
}

// until waits until ok, or fails the test.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for ctx := bounded(t); !ok(); time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("never: %s", what)
		}
	}
}

// rig is the installation of one test: a database, a topic that is set up in it, and a tenant. All
// of it is real.
type rig struct {
	t      testing.TB
	broker string
	url    string
	// The test reads and changes the database with it.
	sql        *pgxpool.Pool
	store      *store.Store
	cluster    *kafka.Cluster
	admin      *kadm.Client
	topic      string
	partitions int32
	tenant     payment.Tenant
	keys       atomic.Int64
}

func newRig(t testing.TB, partitions int32, settings map[string]string) *rig {
	t.Helper()
	return newRigOn(t, parts.Kafka(t), partitions, settings)
}

func newRigOn(t testing.TB, broker string, partitions int32, settings map[string]string) *rig {
	t.Helper()
	return newRigAt(t, broker, parts.Postgres(t), partitions, settings)
}

// newRigAt is newRig on a broker and a migrated database of the test's choice.
func newRigAt(t testing.TB, broker, url string, partitions int32, settings map[string]string) *rig {
	t.Helper()
	r := &rig{t: t, broker: broker, url: url, topic: parts.Topic(), partitions: partitions}
	var err error
	r.sql, err = pgxpool.New(bounded(t), r.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.sql.Close)
	r.store = r.open(r.url)
	r.cluster, err = kafka.NewCluster(brokers.At(broker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	r.admin = kadm.NewClient(client)
	r.setUp(settings)
	r.tenant, err = r.store.CreateTenant(bounded(t), "acme")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// setUp does what `paylatch partitions init` does.
func (r *rig) setUp(settings map[string]string) {
	r.t.Helper()
	configs := map[string]*string{}
	for key, value := range settings {
		configs[key] = &value
	}
	if _, err := r.admin.CreateTopic(bounded(r.t), r.partitions, -1, configs, r.topic); err != nil {
		r.t.Fatal(err)
	}
	var ranges []kafka.Range
	until(r.t, "the topic has leaders", func() (ok bool) {
		var err error
		ranges, err = r.cluster.Ranges(bounded(r.t), r.topic)
		return err == nil
	})
	if err := r.store.InitPartitions(bounded(r.t), r.topic, ranges[0].TopicID, store.DeliveryLocked,
		make([]int64, r.partitions)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) open(url string) *store.Store {
	r.t.Helper()
	s, err := store.Open(bounded(r.t), url, 4)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(s.Close)
	return s
}

// exec changes the database.
func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.sql.Exec(bounded(r.t), sql, args...); err != nil {
		r.t.Fatal(err)
	}
}

// tamper changes what the triggers of the schema protect; see parts.Tamper.
func (r *rig) tamper(sql string) {
	r.t.Helper()
	if _, err := parts.Tamper(bounded(r.t), r.sql, sql); err != nil {
		r.t.Fatal(err)
	}
}

// count queries the database for one number.
func (r *rig) count(sql string, args ...any) int {
	r.t.Helper()
	var n int
	if err := r.sql.QueryRow(bounded(r.t), sql, args...).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// payment makes a new, valid payment that goes to the partition.
func (r *rig) payment(partition int32, changes ...func(*payment.Content)) payment.Payment {
	n := r.keys.Add(1)
	key, err := payment.ParseKey("order-" + strconv.FormatInt(n, 10))
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		c := payment.Content{
			Amount: strconv.FormatInt(n, 10), Currency: "USD",
			Originator:  payment.PartyContent{ID: "567", Name: "Yolanda Quist"},
			Beneficiary: payment.PartyContent{ID: "123", Name: "Xavier Zork"},
			Sender:      payment.AccountContent{Type: "checking", Number: strconv.Itoa(i)},
			Receiver:    payment.AccountContent{Type: "iban", Number: "DE89370400440532013000"},
		}
		for _, change := range changes {
			change(&c)
		}
		p, err := payment.New(r.tenant, key, c)
		if err != nil {
			panic(err)
		}
		if payment.PartitionOf(p.PartitionHash, r.partitions) == partition {
			return p
		}
	}
}

// tryCreate creates a payment, as the API and a client do: payment.ErrUnavailable is retried with
// the same key.
func (r *rig) tryCreate(partition int32, changes ...func(*payment.Content)) (payment.Payment, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	asked := r.payment(partition, changes...)
	for {
		p, _, err := r.store.Create(ctx, asked)
		if !errors.Is(err, payment.ErrUnavailable) || ctx.Err() != nil {
			return p, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// create creates n payments for the partition, one after the other.
func (r *rig) create(partition int32, n int, changes ...func(*payment.Content)) []payment.Payment {
	r.t.Helper()
	created := make([]payment.Payment, n)
	for i := range created {
		var err error
		created[i], err = r.tryCreate(partition, changes...)
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return created
}

// replica is one sender with its own store and clients.
type replica struct {
	*Sender
	registry *prometheus.Registry
}

// replica makes a sender on the rig. It does nothing before run.
func (r *rig) replica(changes ...func(*Config)) replica {
	r.t.Helper()
	publisher := kafka.NewLocked(brokers.At(r.broker), r.topic, store.PublishTimeout)
	r.t.Cleanup(publisher.Close)
	registry := prometheus.NewRegistry()
	c := Config{
		Store: r.store, Publisher: publisher, Log: r.cluster, Encoder: kafka.NewEncoder("/paylatch"),
		Delivery: store.DeliveryLocked,
		Logger:   slog.New(slog.NewTextHandler(r.t.Output(), nil)), Metrics: NewMetrics(registry),
	}
	for _, change := range changes {
		change(&c)
	}
	return replica{New(c), registry}
}

// batches sets how many payments go into one batch.
func batches(of int) func(*Config) { return func(c *Config) { c.BatchMax = of } }

// run starts a replica. stop asks it to end and waits for that. At the end of the test it is
// stopped at the latest.
func (r *rig) run(s replica) (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			panic("Run does not return")
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// value is that of a metric without labels.
func (s replica) value(name string) float64 {
	families, err := s.registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	panic(fmt.Sprintf("no metric %s", name))
}

// own makes an owner of the partition that has taken it over. The test makes it send batches.
func (r *rig) own(s replica, partition int32) *partitionWorker {
	r.t.Helper()
	w := r.ownOnly(s, partition)
	if err := w.recover(bounded(r.t)); err != nil {
		r.t.Fatalf("takeover: %v", err)
	}
	return w
}

// ownOnly makes an owner that has not taken the partition over.
func (r *rig) ownOnly(s replica, partition int32) *partitionWorker {
	r.t.Helper()
	w := s.newWorker(store.Partition{Topic: r.topic, Number: partition}, func() {})
	until(r.t, "the partition is free", func() bool {
		err := w.acquire(bounded(r.t))
		if err != nil && !errors.Is(err, store.ErrOwned) {
			r.t.Fatal(err)
		}
		return err == nil
	})
	r.t.Cleanup(w.reset)
	return w
}

// drain sends batches until nothing is left to send, and returns how many of them sent something.
func (r *rig) drain(w *partitionWorker) int {
	r.t.Helper()
	for n := 0; ; n++ {
		again, err := w.sendBatch(bounded(r.t))
		if err != nil {
			r.t.Fatal(err)
		}
		if !again {
			return n
		}
	}
}
