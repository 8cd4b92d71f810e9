package auditor_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

// waitTimeout bounds every wait of these tests. No test asserts how long a wait took.
const waitTimeout = time.Minute

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), waitTimeout)
	t.Cleanup(cancel)
	return ctx
}

// rig is an installation for one test: a database, a topic, and a tenant. The test does what a
// sender does, or what no sender should do.
type rig struct {
	t       *testing.T
	broker  string
	topic   string
	sql     *pgxpool.Pool
	store   *store.Store
	cluster *kafka.Cluster
	client  *kgo.Client
	tenant  payment.Tenant
	keys    int
}

// newRig creates a topic with the partitions. The database has only the first one.
func newRig(t *testing.T, partitions int32) *rig {
	t.Helper()
	r := &rig{t: t, broker: parts.Kafka(t), topic: parts.Topic()}
	url := parts.Postgres(t)
	var err error
	r.sql, err = pgxpool.New(bounded(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.sql.Close)
	r.store, err = store.Open(bounded(t), url, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.store.Close)
	r.cluster, err = kafka.NewCluster(brokers.At(r.broker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.cluster.Close)
	r.client = r.producer()
	ranges := r.createTopic(partitions)
	err = r.store.InitPartitions(bounded(t), r.topic, ranges[0].TopicID, store.DeliveryLocked, make([]int64, 1))
	if err != nil {
		t.Fatal(err)
	}
	r.tenant, err = r.store.CreateTenant(bounded(t), "acme")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// createTopic creates the topic and waits until it has leaders.
func (r *rig) createTopic(partitions int32) (ranges []kafka.Range) {
	r.t.Helper()
	for ctx := bounded(r.t); ; time.Sleep(10 * time.Millisecond) {
		err := r.cluster.CreateTopic(ctx, r.topic, partitions, 1)
		if err == nil {
			ranges, err = r.cluster.Ranges(ctx, r.topic)
		}
		if err == nil {
			return ranges
		}
		if ctx.Err() != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) producer(more ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	client, err := kgo.NewClient(append(more, kgo.SeedBrokers(r.broker), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableClientMetrics())...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(client.Close)
	return client
}

// admin returns a client that is closed with the producer.
func (r *rig) admin() *kadm.Client { return kadm.NewClient(r.client) }

// create stores n payments.
func (r *rig) create(n int) (ids []string) {
	r.t.Helper()
	for range n {
		r.keys++
		key, err := payment.ParseKey("order-" + strconv.Itoa(r.keys))
		if err != nil {
			r.t.Fatal(err)
		}
		p, err := payment.New(r.tenant, key, payment.Content{
			Amount: "1", Currency: "EUR",
			Originator:  payment.PartyContent{ID: "1", Name: "Y"},
			Beneficiary: payment.PartyContent{ID: "2", Name: "X"},
			Sender:      payment.AccountContent{Type: "checking", Number: "1"},
			Receiver:    payment.AccountContent{Type: "checking", Number: "2"},
		})
		if err != nil {
			r.t.Fatal(err)
		}
		p, _, err = r.store.Create(bounded(r.t), p)
		if err != nil {
			r.t.Fatal(err)
		}
		ids = append(ids, p.ID.String())
	}
	return ids
}

// event returns the event of a payment with this key, or a record of no payment.
func (r *rig) event(key string) kafka.Event {
	r.t.Helper()
	id, err := payment.ParseID(key)
	if err != nil {
		return kafka.Event{Key: []byte(key), Value: []byte("{}")}
	}
	p, err := r.store.Find(bounded(r.t), r.tenant.TenantRef, id)
	if errors.Is(err, payment.ErrNotFound) {
		return kafka.Event{Key: []byte(key), Value: []byte("{}")}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	event, err := kafka.NewEncoder("/test").Encode(p)
	if err != nil {
		r.t.Fatal(err)
	}
	return event
}

// emit appends a record with the key to a partition and returns its offset.
func (r *rig) emit(partition int32, key string) int64 {
	r.t.Helper()
	return r.append(partition, r.event(key))
}

// append appends an event to a partition and returns its offset.
func (r *rig) append(partition int32, event kafka.Event) int64 {
	r.t.Helper()
	record := &kgo.Record{
		Topic: r.topic, Partition: partition, Key: event.Key, Value: event.Value, Headers: event.Headers,
	}
	if err := r.client.ProduceSync(bounded(r.t), record).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
	return record.Offset
}

// mark marks a payment sent.
func (r *rig) mark(id string, offset int64) {
	r.t.Helper()
	tag, err := r.sql.Exec(bounded(r.t),
		`update payments set status = 'sent', sent_at = now(), kafka_offset = $2 where id = $1`, id, offset)
	if err != nil || tag.RowsAffected() != 1 {
		r.t.Fatalf("mark %s: %s, %v", id, tag, err)
	}
}

// send does to n new payments what a sender does, and returns the offset of the next record.
func (r *rig) send(n int) (next int64) {
	r.t.Helper()
	for _, id := range r.create(n) {
		offset := r.emit(0, id)
		r.mark(id, offset)
		next = offset + 1
	}
	return next
}

// open begins a transaction in the topic. It returns a function that aborts it.
func (r *rig) open() (abort func()) {
	r.t.Helper()
	client := r.producer(kgo.TransactionalID("foreign-"+r.topic), kgo.TransactionTimeout(waitTimeout))
	if err := client.BeginTransaction(); err != nil {
		r.t.Fatal(err)
	}
	record := &kgo.Record{Topic: r.topic, Key: []byte("foreign")}
	if err := client.ProduceSync(bounded(r.t), record).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		r.t.Helper()
		if err := client.EndTransaction(bounded(r.t), kgo.TryAbort); err != nil {
			r.t.Fatal(err)
		}
	}
}

// audit audits the database of the rig and the log, and compares the counts.
func (r *rig) audit(log auditor.Log, want auditor.Report) {
	r.t.Helper()
	got, err := auditor.Audit(bounded(r.t), r.store, log)
	if err != nil {
		r.t.Fatal(err)
	}
	for kind, c := range map[string]struct {
		count    int64
		examples []string
	}{
		"duplicates": {got.Duplicates, got.Examples.Duplicates},
		"missing":    {got.Missing, got.Examples.Missing},
		"unexpected": {got.Unexpected, got.Examples.Unexpected},
		"differing":  {got.Differing, got.Examples.Differing},
		"hidden":     {got.Hidden, got.Examples.Hidden},
	} {
		if int64(len(c.examples)) != c.count {
			r.t.Errorf("got %s %d with examples %q, want one for each", kind, c.count, c.examples)
		}
	}
	want.Topic, got.Examples = r.topic, auditor.Examples{}
	if gotText, wantText := text(got), text(want); gotText != wantText {
		r.t.Errorf("got  %s\nwant %s", gotText, wantText)
	}
}
