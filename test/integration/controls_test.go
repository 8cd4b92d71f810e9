package integration

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// The positive controls: senders that are wrong, each in its own way, and each seen by the auditor
// that finds nothing wrong with ours. They are in the test tree only.

// TestControl_OptimisticDuplicates: four senders that read `created` rows without a lock, publish,
// and mark where nobody else has marked meanwhile. It is how a version column is used; the marks
// are right, but the records are there twice.
func TestControl_OptimisticDuplicates(t *testing.T) {
	t.Parallel()
	const payments = 2000
	i := install(t)
	i.bulk(t, payments)
	pool, err := parts.Pool(t.Context(), i.env["PAYLATCH_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	producer := i.producer(t)
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for more := true; more; {
				var err error
				if more, err = optimisticPass(t.Context(), pool, producer, i.topic); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	r := i.verify(t)
	if r.Duplicates == 0 || r.Unsent != 0 {
		t.Errorf("the optimistic sender's duplicates were not seen: %+v", r)
	}
	if want := r.Records - payments; r.Duplicates != want {
		t.Errorf("%d duplicates counted, %d records too many", r.Duplicates, want)
	}
	t.Logf("%d duplicates of %d payments", r.Duplicates, payments)
}

const (
	readCreated     = `select id::text, partition from payments where status = 'created' order by seq limit 100`
	markIfUnchanged = `update payments set status = 'sent', sent_at = now(), kafka_offset = $2
		where id = $1 and status = 'created'`
)

func optimisticPass(ctx context.Context, pool *pgxpool.Pool, producer *kgo.Client, topic string) (more bool,
	err error) {
	rows, err := pool.Query(ctx, readCreated)
	if err != nil {
		return false, err
	}
	type row struct {
		ID        string
		Partition int16
	}
	created, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil || len(created) == 0 {
		return false, err
	}
	for _, p := range created {
		record := &kgo.Record{Topic: topic, Partition: int32(p.Partition), Key: []byte(p.ID), Value: []byte("{}")}
		if err := producer.ProduceSync(ctx, record).FirstErr(); err != nil {
			return false, err
		}
		if _, err := pool.Exec(ctx, markIfUnchanged, p.ID, record.Offset); err != nil {
			return false, err
		}
	}
	return true, nil
}

// TestControl_LockedKilledBeforeCommit: locked delivery is killed between the broker's answer and
// the commit, once. Exactly that batch is repeated: the limit of the mode, shown and not hidden.
func TestControl_LockedKilledBeforeCommit(t *testing.T) {
	t.Parallel()
	const payments, batch = 5000, 100
	i := installLocked(t)
	i.bulk(t, payments)
	s, err := store.Open(t.Context(), i.env["PAYLATCH_DATABASE_URL"], 4)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	brokers := []string{i.env["PAYLATCH_KAFKA_BROKERS"]}
	cluster, err := kafka.NewCluster(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	publisher := kafka.NewLocked(brokers, i.topic, store.PublishTimeout)
	defer publisher.Close()
	k := &killer{publisher: publisher, kill: func() { i.execute(t, killPublishing) }}
	one := sender.New(sender.Config{
		Store: s, Publisher: k, Log: cluster, Encoder: kafka.NewEncoder("/test"), Delivery: store.Locked,
		BatchMax: batch,
		Logger:   slog.New(slog.DiscardHandler), Metrics: sender.NewMetrics(prometheus.NewRegistry()),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { one.Run(ctx) })
	i.drained(t)
	cancel()
	running.Wait()
	r := i.verify(t)
	if killed := k.published.Load(); r.Duplicates != killed || killed == 0 || r.Missing != 0 || r.Unexpected != 0 ||
		r.Undecided != 0 {
		t.Errorf("a batch of %d was interrupted, %d duplicates were seen", killed, r.Duplicates)
	}
	t.Logf("%d duplicates, the interrupted batch", r.Duplicates)
}

// killPublishing ends the one session that holds a claim: its transaction is open while its owner
// publishes.
const killPublishing = `select pg_terminate_backend(pid, 10000) from pg_stat_activity
	where application_name = 'paylatch sender' and state = 'idle in transaction' and datname = current_database()`

// killer publishes, and after the first batch that the broker has acknowledged kills the database
// session of its owner. Other owners wait meanwhile, so that the session killed is the right one.
type killer struct {
	publisher sender.Publisher
	kill      func()
	mu        sync.Mutex
	published atomic.Int64 // Payments of the batch that was interrupted.
}

func (k *killer) Publish(ctx context.Context, partition int32, events []kafka.Event) (int64, error) {
	if k.published.Load() > 0 {
		return k.publisher.Publish(ctx, partition, events)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	// Its session was killed with the other's: nothing of it may be published, or it would be a
	// second batch.
	if k.published.Load() > 0 {
		return 0, errors.New("the session is lost")
	}
	base, err := k.publisher.Publish(ctx, partition, events)
	if err == nil {
		k.kill()
		k.published.Store(int64(len(events)))
	}
	return base, err
}

// TestControl_MarkedBeforePublishedLoses: a sender that marks before it publishes, and is killed in
// between, loses: the rows say sent, and nobody will send them. At-most-once, found as missing.
func TestControl_MarkedBeforePublishedLoses(t *testing.T) {
	t.Parallel()
	const payments, lost = 600, 20
	i := install(t)
	i.bulk(t, payments)
	// The killed one's last act: it marked 20 payments of partition 0 for the offsets that it was
	// about to write.
	i.execute(t, `update payments p set status = 'sent', sent_at = now(), kafka_offset = n - 1
		from (select id, row_number() over (order by seq) as n from payments where partition = 0
			order by seq limit $1) as first
		where p.id = first.id`, lost)
	i.launch(t, "sender") // A right one drains the rest, and writes other payments at those offsets.
	i.drained(t)
	r := i.verify(t)
	if r.Missing != lost || r.Duplicates != 0 || r.Unexpected != 0 || r.Undecided != 0 {
		t.Errorf("%d payments were lost: %+v", lost, r)
	}
	t.Logf("%d missing", r.Missing)
}

// TestControl_Unexpected writes records of no payment, two of them with a key that is no id. The
// auditor must count them.
func TestControl_Unexpected(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.bulk(t, 12)
	i.launch(t, "sender")
	i.drained(t)
	producer := i.producer(t)
	for _, key := range []string{"0198f0c2-7a3e-8c55-8c1f-2f6f3f0b9a11", "not an id", ""} {
		if err := producer.ProduceSync(t.Context(),
			&kgo.Record{Topic: i.topic, Key: []byte(key)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if r := i.verify(t); r.Unexpected != 3 || r.Duplicates != 0 || r.Missing != 0 {
		t.Errorf("3 unexpected records were written: %+v", r)
	}
}

// producer is a client that writes to the installation's topic past its senders.
func (i *installation) producer(t *testing.T) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(i.env["PAYLATCH_KAFKA_BROKERS"]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.DisableClientMetrics(), kgo.RecordDeliveryTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
