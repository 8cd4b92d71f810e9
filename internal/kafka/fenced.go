package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/sleep"
)

const (
	// transactionTimeout is when the coordinator aborts a transaction that was not ended. It bounds
	// how long consumers wait for a transaction of a dead host that has no successor. It is longer
	// than a batch may take.
	transactionTimeout = 10 * time.Second
	// concurrentBackoff is the time between retries while the coordinator completes the previous
	// transaction (CONCURRENT_TRANSACTIONS), which takes milliseconds.
	concurrentBackoff = 5 * time.Millisecond
	// stableTimeout bounds the wait for the marker of the previous transaction. Mostly the marker
	// is there already; a new leader may take a second. It is well below the time that a batch may
	// take, since both happen in one transaction of the database.
	stableTimeout = 3 * time.Second
	// stableIntervalFirst and stableIntervalLongest bound the time between two queries for the
	// marker. It follows the decision of the coordinator within milliseconds.
	stableIntervalFirst, stableIntervalLongest = time.Millisecond, 20 * time.Millisecond
	// completionTimeout is how long the broker would delay a produce request by itself. Under load
	// the next batch comes later than that, and there is no query.
	completionTimeout = 20 * time.Millisecond
	// completionInterval is about the time that a completion takes, so that one query is mostly
	// enough.
	completionInterval = 3 * time.Millisecond
	// fencedRecordsMax bounds the records that a producer buffers. Fit puts fewer into a batch,
	// since no event has less than 100 bytes. At this bound franz-go would wait, or with
	// ManualFlushing fail.
	fencedRecordsMax = BatchBytesMax / 100
)

// Producer is the only producer that may publish to a partition, until another one is created for
// the same transactional id. It publishes one batch after the other. After an error it can only be
// closed, and EndHanging called. It is not safe for concurrent use.
type Producer struct {
	client          *kgo.Client
	topic           string
	partition       int32
	transactionalID string
	// id and epoch are those that Fence got. Older epochs of the id are fenced. The transactions of
	// this producer have this epoch or, after a commit, a later one.
	id    int64
	epoch int16
	// committed is when the response to the last Commit arrived.
	committed time.Time
}

// Fencer creates producers. It is safe for concurrent use.
type Fencer struct {
	access  *brokers.Access
	topic   string
	timeout time.Duration
	options []kgo.Opt
}

// NewFencer returns a fencer for the topic. timeout bounds one attempt to publish. The options are
// for tests that connect in another way.
func NewFencer(access *brokers.Access, topic string, timeout time.Duration, options ...kgo.Opt) *Fencer {
	return &Fencer{access, topic, timeout, options}
}

// Fence returns a producer for the partition. After it returns, no earlier producer with the same
// transactional id can append or commit. Its open transaction has been committed or aborted, and
// the log says which. InitProducerID does this (KIP-98, KIP-890).
//
// Each producer has a client of its own: a client that has a producer id already does not fence.
func (f *Fencer) Fence(ctx context.Context, partition int32, transactionalID string) (*Producer, error) {
	client, err := kgo.NewClient(slices.Concat(f.access.Options(), []kgo.Opt{
		kgo.ClientID(clientID), kgo.DisableClientMetrics(),
		kgo.TransactionalID(transactionalID), kgo.TransactionTimeout(transactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		// A batch is sent by Flush, when it is complete, and not after a linger.
		kgo.ManualFlushing(), kgo.MaxBufferedRecords(fencedRecordsMax),
		kgo.ProducerBatchMaxBytes(BatchBytesMax + BatchOverheadMax), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordDeliveryTimeout(f.timeout), kgo.RetryTimeout(f.timeout), kgo.RequestTimeoutOverhead(f.timeout / 2),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.ConcurrentTransactionsBackoff(concurrentBackoff),
	}, f.options)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		client.Close()
		err = explainCoordinator(explain(err, mayWriteTransactions(transactionalID)))
		return nil, fmt.Errorf("fence %s/%d: %w", f.topic, partition, err)
	}
	return &Producer{
		client: client, topic: f.topic, partition: partition, transactionalID: transactionalID, id: id, epoch: epoch,
	}, nil
}

// AwaitStable waits until the log is stable below next: the marker of the previous transaction is
// on all in-sync replicas. An error means that this is unknown. It returns within stableTimeout.
//
// Commit returns when the coordinator has decided. The marker follows, and Kafka may lose it (see
// EndHanging). A producer that continues without the marker would extend that transaction. The next
// abort would then also abort what was committed. So nothing may be produced before AwaitStable has
// returned nil.
func (p *Producer) AwaitStable(ctx context.Context, next int64) error {
	ctx, cancel := context.WithTimeout(ctx, stableTimeout)
	defer cancel()
	p.awaitCompletion(ctx)
	to := p.leader()
	for interval := stableIntervalFirst; ; interval = min(2*interval, stableIntervalLongest) {
		stableEnd, err := listOffset(ctx, to, p.topic, p.partition, latest, committed)
		if err == nil && stableEnd >= next {
			return nil
		}
		if err != nil {
			to = p.client
		}
		if sleep.For(ctx, interval) != nil {
			return fmt.Errorf("%s/%d is not stable below offset %d, but only below %d: %w",
				p.topic, p.partition, next, stableEnd, cmp.Or(err, ctx.Err()))
		}
	}
}

// awaitCompletion is an optimization. It waits until the coordinator has recorded that the
// transaction is complete, which it does once the marker is written. A broker delays a produce
// request that comes earlier by add.partitions.to.txn.retry.backoff.ms (20 ms, KIP-890), which is
// mostly far too long. Errors are ignored: AwaitStable decides.
func (p *Producer) awaitCompletion(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, p.committed.Add(completionTimeout))
	defer cancel()
	for sleep.For(ctx, completionInterval) == nil {
		described, err := kadm.NewClient(p.client).DescribeTransactions(ctx, p.transactionalID)
		if err != nil || !strings.HasPrefix(described[p.transactionalID].State, "Prepare") {
			return
		}
	}
}

// leader returns the broker that the last batch went to. If it is unknown, it returns the client,
// which looks up the leader first.
func (p *Producer) leader() kmsg.Requestor {
	leader, _, err := p.client.PartitionLeader(p.topic, p.partition)
	if err == nil && leader >= 0 {
		return p.client.Broker(int(leader))
	}
	return p.client
}

// Produce begins a transaction and appends the events at the offsets next, next+1, and so on,
// acknowledged by all in-sync replicas. read_committed consumers do not see them before Commit.
//
// A record at another offset is an error: the log is not as the caller knows it. A *RefusedError
// error means that a retry would fail in the same way.
func (p *Producer) Produce(ctx context.Context, next int64, events []Event) error {
	if err := p.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction on %s/%d: %w", p.topic, p.partition, err)
	}
	records := make([]*kgo.Record, len(events))
	results := make(chan error, len(events)) // It has room for all, so that no callback blocks.
	at := time.Now()                         // Retention counts from this time.
	for i, e := range events {
		records[i] = &kgo.Record{
			Topic: p.topic, Partition: p.partition, Timestamp: at, Key: e.Key, Value: e.Value, Headers: e.Headers,
		}
		p.client.Produce(ctx, records[i], func(_ *kgo.Record, err error) { results <- err })
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("produce to %s/%d: %w", p.topic, p.partition, err)
	}
	for range events { // Each result is checked: franz-go would commit the records that succeeded.
		if err := <-results; err != nil {
			return p.produceError(err)
		}
	}
	for i, r := range records {
		if want := next + int64(i); r.Offset != want {
			return fmt.Errorf("produce to %s/%d: record %d of %d is at offset %d, not %d",
				p.topic, p.partition, i+1, len(records), r.Offset, want)
		}
	}
	return nil
}

// produceError returns a *RefusedError if the broker refused the batch. The errors are those of
// isRefusal.
func (p *Producer) produceError(err error) error {
	for _, reason := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.UnsupportedForMessageFormat,
		kerr.PolicyViolation,
	} {
		if errors.Is(err, reason) {
			return &RefusedError{err}
		}
	}
	return fmt.Errorf("produce to %s/%d: %w", p.topic, p.partition, explain(err, mayWrite(p.topic)))
}

// Commit commits the transaction. After nil its records are in the log, and a marker follows at the
// next offset. After an error the outcome is unknown: only the log shows it.
func (p *Producer) Commit(ctx context.Context) error {
	if err := p.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit a transaction on %s/%d: %w", p.topic, p.partition, err)
	}
	p.committed = time.Now()
	return nil
}

// EndHanging commits or aborts a transaction that an earlier epoch of this producer left open in
// the partition. After nil it is ended. If there is none, the error lists other open transactions.
//
// It is needed when the coordinator has decided, but the marker is lost. After a restart of a
// broker, Kafka may skip the marker if the partition has no leader at that moment ("these
// partitions are likely deleted already"; seen with Kafka 4.3.1). Such a transaction hides its
// records, and all that follow, from read_committed consumers. Kafka never ends it by itself. The
// next marker of the same producer would end it, in either way.
//
// Writing a marker is a request of an administrator, which fencing does not cover. So a zombie must
// not end a transaction of its successor. EndHanging ends only transactions of an epoch before the
// fence of this producer. One of the same or a later epoch is an error: it is in progress, perhaps
// in this producer. The marker also has the epoch of the transaction, and the broker refuses it
// once the successor has appended a record.
//
// Source: KIP-664, by which kafka-transactions.sh abort does the same.
func (p *Producer) EndHanging(ctx context.Context, commit bool) error {
	open, err := p.openTransactions(ctx)
	if err != nil {
		return err
	}
	ours, ok := open[p.id]
	switch {
	case !ok:
		return fmt.Errorf("no transaction of producer %d hangs in %s/%d; open there is: %s",
			p.id, p.topic, p.partition, open)
	case ours.ProducerEpoch >= p.epoch:
		return fmt.Errorf("a transaction of %s/%d is in progress: its producer's epoch is %d, ours was %d",
			p.topic, p.partition, ours.ProducerEpoch, p.epoch)
	}
	return p.writeMarker(ctx, ours, commit)
}

// openTransactions are the transactions that are open in a partition, by producer id.
type openTransactions map[int64]kadm.DescribedProducer

// String lists what kafka-transactions.sh needs to end the transactions.
func (o openTransactions) String() string {
	if len(o) == 0 {
		return "nothing (any more)"
	}
	lines := make([]string, 0, len(o))
	for _, id := range slices.Sorted(maps.Keys(o)) {
		lines = append(lines, fmt.Sprintf("producer id %d, epoch %d, from offset %d",
			id, o[id].ProducerEpoch, o[id].CurrentTxnStartOffset))
	}
	return strings.Join(lines, "; ")
}

// openTransactions returns the transactions that are open in the partition, as its log has them.
func (p *Producer) openTransactions(ctx context.Context) (openTransactions, error) {
	// The admin client is not closed: that would close the client of the producer.
	described, err := kadm.NewClient(p.client).DescribeProducers(ctx, p.topicSet())
	if err == nil {
		err = described[p.topic].Partitions[p.partition].Err
	}
	if err != nil {
		err = explain(err, mayRead(p.topic))
		return nil, fmt.Errorf("describe the producers of %s/%d: %w", p.topic, p.partition, err)
	}
	open := openTransactions{}
	for id, one := range described[p.topic].Partitions[p.partition].ActiveProducers {
		if one.CurrentTxnStartOffset >= 0 {
			open[id] = one
		}
	}
	return open, nil
}

// writeMarker writes the marker of an open transaction.
func (p *Producer) writeMarker(ctx context.Context, open kadm.DescribedProducer, commit bool) error {
	responses, err := kadm.NewClient(p.client).WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: open.ProducerID, ProducerEpoch: open.ProducerEpoch, Commit: commit,
		CoordinatorEpoch: open.CoordinatorEpoch, Topics: p.topicSet(),
	})
	if err == nil {
		err = responses[open.ProducerID].Topics[p.topic].Partitions[p.partition].Err
	}
	if err != nil {
		err = explain(err, mayWriteMarkers())
		return fmt.Errorf("end the hanging transaction of %s/%d: %w", p.topic, p.partition, err)
	}
	return nil
}

func (p *Producer) topicSet() (set kadm.TopicsSet) {
	set.Add(p.topic, p.partition)
	return set
}

// Close closes the connections. It does not end a transaction: the next Fence does.
func (p *Producer) Close() { p.client.Close() }
