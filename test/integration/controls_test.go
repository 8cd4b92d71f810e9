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

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// The positive controls of the auditor: each sender here is wrong in its own way, and the auditor
// must see it. They exist in tests only.

// TestControl_OptimisticDuplicates runs four senders that read `created` rows without a lock,
// publish, and mark the rows that are still unmarked. A version column is used like this. The marks
// are right, but the topic has duplicates.
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
				more, err = optimisticBatch(t.Context(), pool, producer, i.topic)
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	r := i.verify(t)
	if r.Duplicates == 0 || r.Unsent != 0 {
		t.Errorf("got %+v, want duplicates and none unsent", r)
	}
	if want := r.Records - payments; r.Duplicates != want {
		t.Errorf("got %d duplicates, want %d: the records beyond one for each payment", r.Duplicates, want)
	}
	t.Logf("%d duplicates of %d payments", r.Duplicates, payments)
}

const (
	readCreated     = `select id::text, partition from payments where status = 'created' order by seq limit 100`
	markIfUnchanged = `update payments set status = 'sent', sent_at = now(), kafka_offset = $2
		where id = $1 and status = 'created'`
)

func optimisticBatch(ctx context.Context, pool *pgxpool.Pool, producer *kgo.Client, topic string) (more bool,
	err error,
) {
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

// TestControl_LockedKilledBeforeCommit kills a locked delivery once between the broker's response
// and the commit. Exactly that batch is repeated, which is the limit of this mode.
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
	access := brokers.At(i.env["PAYLATCH_KAFKA_BROKERS"])
	cluster, err := kafka.NewCluster(access)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	publisher := kafka.NewLocked(access, i.topic, store.PublishTimeout)
	defer publisher.Close()
	k := &killer{publisher: publisher, kill: func() { i.execute(t, killPublishing) }}
	one := sender.New(sender.Config{
		Store: s, Publisher: k, Log: cluster, Encoder: kafka.NewEncoder("/test"), Delivery: store.DeliveryLocked,
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
		r.Hidden != 0 {
		t.Errorf("got %+v, want as duplicates the interrupted batch of %d, and no other fault", r, killed)
	}
	t.Logf("%d duplicates, the interrupted batch", r.Duplicates)
}

// killPublishing ends the one session that holds a claim. Its transaction is open while its owner
// publishes.
const killPublishing = `select pg_terminate_backend(pid, 10000) from pg_stat_activity
	where application_name = 'paylatch sender' and state = 'idle in transaction' and datname = current_database()`

// killer publishes. After the first batch that the broker has acknowledged it kills the database
// session of the owner. Other owners wait until then, so no other session is killed.
type killer struct {
	publisher sender.Publisher
	kill      func()
	mu        sync.Mutex
	// published counts the payments of the interrupted batch.
	published atomic.Int64
}

func (k *killer) Publish(ctx context.Context, partition int32, events []kafka.Event) (int64, error) {
	if k.published.Load() > 0 {
		return k.publisher.Publish(ctx, partition, events)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	// This owner's session was killed with the other one. It must not publish, or a second batch
	// would be repeated.
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

// TestControl_MarkedBeforePublishedLoses has a sender that marks before it publishes, and is killed
// in between. The rows are marked sent, and no sender will send them. This is at-most-once
// delivery, and the payments are missing.
func TestControl_MarkedBeforePublishedLoses(t *testing.T) {
	t.Parallel()
	const payments, lost = 600, 20
	i := install(t)
	i.bulk(t, payments)
	// The last act of the killed sender: it marked 20 payments of partition 0 with the offsets at
	// which it wanted to publish them.
	i.execute(t, `update payments p set status = 'sent', sent_at = now(), kafka_offset = n - 1
		from (select id, row_number() over (order by seq) as n from payments where partition = 0
			order by seq limit $1) as first
		where p.id = first.id`, lost)
	// A correct sender drains the rest, and writes other payments at those offsets.
	i.launch(t, "sender")
	i.drained(t)
	r := i.verify(t)
	if r.Missing != lost || r.Duplicates != 0 || r.Unexpected != 0 || r.Hidden != 0 {
		t.Errorf("got %+v, want %d missing and no other fault", r, lost)
	}
	t.Logf("%d missing", r.Missing)
}

// TestControl_Unexpected writes three records of no payment, two of them with a key that is no id.
// The auditor must count them.
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
		t.Errorf("got %+v, want 3 unexpected and no other fault", r)
	}
}

// producer returns a client that writes to the topic of the installation directly.
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
