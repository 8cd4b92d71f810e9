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
)

const (
	// transactionTimeout is after which the coordinator aborts a transaction that nobody ended. It bounds how long consumers wait for what a dead host
	// left open when nobody takes over, and lies above the time that a batch may take.
	transactionTimeout = 10 * time.Second
	// concurrentBackoff paces the wait for the coordinator to finish the transaction before (CONCURRENT_TRANSACTIONS); that is a matter of
	// milliseconds.
	concurrentBackoff = 5 * time.Millisecond
	// settleTimeout bounds the wait for the marker of the transaction before, which is mostly there already; moving the partition to another leader may take a second. Well
	// below the time that a batch may take, which must fit into the same transaction of the database.
	settleTimeout = 3 * time.Second
	// The pace of asking for it: a marker follows the coordinator's decision within milliseconds.
	settlePaceMin, settlePaceMax = time.Millisecond, 20 * time.Millisecond
	// completionTimeout is as long as the broker would wait by itself; under load the next batch comes later than that, and nothing is asked.
	completionTimeout = 20 * time.Millisecond
	// completionPace is about what it takes: the first question is mostly the last.
	completionPace = 3 * time.Millisecond
	// fencedBatchMax bounds the records that a producer holds at once. It is more than Fit puts into a batch, since no event has less than 100 bytes; franz-go would wait
	// for room otherwise, and with ManualFlushing refuses.
	fencedBatchMax = BatchBytesMax / 100
)

// Producer is the one that may publish to a partition, until another is made for the same transactional id. It serves one batch after the other, and
// after any error it is of no use but to be closed. Not safe for concurrent use.
type Producer struct {
	client          *kgo.Client
	topic           string
	partition       int32
	transactionalID string
	id              int64     // What Fence was given: older epochs of this id are fenced.
	epoch           int16     // Its transactions have this one or, after a commit, a later one.
	committed       time.Time // When the last Commit was answered.
}

// Fencer makes producers. Safe for concurrent use.
type Fencer struct {
	brokers []string
	topic   string
	timeout time.Duration
	more    []kgo.Opt
}

// NewFencer returns a fencer for the topic behind the brokers; one attempt to publish may take as long as timeout. More options say how to connect.
func NewFencer(brokers []string, topic string, timeout time.Duration, more ...kgo.Opt) *Fencer {
	return &Fencer{brokers, topic, timeout, more}
}

// Fence returns a producer for the partition. When it returns, no producer made before for the same transactional id can append or commit any more, and
// what they left open is decided: committed or aborted, in the log. That is InitProducerID's work (KIP-98; KIP-890). A client of its own for each producer, since
// only one without a memory of an earlier id really fences.
func (f *Fencer) Fence(ctx context.Context, partition int32, transactionalID string) (*Producer, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(f.brokers...), kgo.ClientID(clientID), kgo.DisableClientMetrics(),
		kgo.TransactionalID(transactionalID), kgo.TransactionTimeout(transactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ManualFlushing(), kgo.MaxBufferedRecords(fencedBatchMax), // A batch is sent when it is whole, not after a linger.
		kgo.ProducerBatchMaxBytes(BatchBytesMax + BatchOverheadMax), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordDeliveryTimeout(f.timeout), kgo.RetryTimeout(f.timeout), kgo.RequestTimeoutOverhead(f.timeout / 2),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.ConcurrentTransactionsBackoff(concurrentBackoff),
	}, append([]kgo.Opt{kgo.DialTimeout(dialTimeout)}, f.more...)...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		client.Close()
		err = explainCoordinator(explain(err, mayWriteTransactions(transactionalID)))
		return nil, fmt.Errorf("fence %s/%d: %w", f.topic, partition, err)
	}
	return &Producer{client: client, topic: f.topic, partition: partition, transactionalID: transactionalID, id: id, epoch: epoch}, nil
}

// Settled waits until the log says what became of everything below next: until the marker of the transaction before is there, for all replicas. Commit answers when the coordinator has *decided*;
// the marker follows, and Kafka may lose it (see EndHanging). A producer that goes on without it would extend that transaction, and the next abort would take what was committed with it. So
// nothing may be produced before Settled has returned nil; an error says that it is not known, in bounded time.
func (p *Producer) Settled(ctx context.Context, next int64) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	p.awaitCompletion(ctx)
	whom := p.leader()
	for pace := settlePaceMin; ; pace = min(2*pace, settlePaceMax) {
		stableEnd, err := listOffset(ctx, whom, p.topic, p.partition, latest, committed)
		if err == nil && stableEnd >= next {
			return nil
		}
		if err != nil {
			whom = p.client
		}
		if sleep(ctx, pace) != nil {
			return fmt.Errorf("%s/%d is undecided below offset %d, from %d on: %w", p.topic, p.partition, next, stableEnd, cmp.Or(err, ctx.Err()))
		}
	}
}

// awaitCompletion waits, for speed alone, until the coordinator has put on record that the transaction is complete, which it does once the marker is there. A produce request that comes before that is
// held back by the broker, which looks again after add.partitions.to.txn.retry.backoff.ms (20 ms; KIP-890), mostly far too late. An error, or a coordinator that takes longer, is no
// matter of this wait.
func (p *Producer) awaitCompletion(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, p.committed.Add(completionTimeout))
	defer cancel()
	for sleep(ctx, completionPace) == nil {
		described, err := kadm.NewClient(p.client).DescribeTransactions(ctx, p.transactionalID)
		if err != nil || !strings.HasPrefix(described[p.transactionalID].State, "Prepare") {
			return
		}
	}
}

// leader is the broker that the last batch went to, or else the client, which asks for the leader first.
func (p *Producer) leader() kmsg.Requestor {
	if leader, _, err := p.client.PartitionLeader(p.topic, p.partition); err == nil && leader >= 0 {
		return p.client.Broker(int(leader))
	}
	return p.client
}

// Produce begins a transaction and appends the events to the log, acknowledged by all in-sync replicas, at next, next+1, ….: a record anywhere else means that the
// log is not as the caller knows it, and is an error. Consumers see nothing before Commit. A *Refused error says that no later attempt would differ.
func (p *Producer) Produce(ctx context.Context, next int64, events []Event) error {
	if err := p.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction on %s/%d: %w", p.topic, p.partition, err)
	}
	records := make([]*kgo.Record, len(events))
	answers := make(chan error, len(events)) // One for each, so that no answer ever waits for us.
	at := time.Now()                         // When it is published: retention counts from there.
	for i, e := range events {
		records[i] = &kgo.Record{Topic: p.topic, Partition: p.partition, Timestamp: at, Key: e.Key, Value: e.Value, Headers: e.Headers}
		p.client.Produce(ctx, records[i], func(_ *kgo.Record, err error) { answers <- err })
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("produce to %s/%d: %w", p.topic, p.partition, err)
	}
	for range events { // franz-go would commit what succeeded.
		if err := <-answers; err != nil {
			return p.failed(err)
		}
	}
	for i, r := range records {
		if want := next + int64(i); r.Offset != want {
			return fmt.Errorf("produce to %s/%d: record %d of %d is at offset %d, not %d", p.topic, p.partition, i+1, len(records), r.Offset, want)
		}
	}
	return nil
}

func (p *Producer) failed(err error) error {
	for _, reason := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.UnsupportedForMessageFormat, kerr.PolicyViolation} {
		if errors.Is(err, reason) { // The same answers as in locked delivery; see refused.
			return &Refused{err}
		}
	}
	return fmt.Errorf("produce to %s/%d: %w", p.topic, p.partition, explain(err, mayWrite(p.topic)))
}

// Commit ends the transaction: nil says that its records are in the log for good, followed by a marker at the next offset. An error says nothing, least of all
// that they are not: only the log knows.
func (p *Producer) Commit(ctx context.Context) error {
	if err := p.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit a transaction on %s/%d: %w", p.topic, p.partition, err)
	}
	p.committed = time.Now()
	return nil
}

// EndHanging ends what the fenced producers of this one's transactional id have left undecided in the partition although its coordinator takes it for decided: after a broker restart Kafka may skip
// a transaction's marker, when the partition has no leader at that moment ("these partitions are likely deleted already"; seen with Kafka 4.3.1). Such a transaction hides its
// records, and all after them, from read_committed consumers, and nothing ends it; the next marker of the same producer would decide it, either way. Nil says that it is ended; when there
// is none the error names what else is open.
//
// A marker is an administrator's request, which fencing does not cover. So that a zombie cannot end its heir's transaction, only one of an epoch before this producer's fence is ended; one
// of the same epoch or a later is an error: somebody, this producer itself perhaps, has it under way. And the marker bears the epoch of what it ends, which the
// broker refuses once the heir has appended anything.
// Source: KIP-664, which has kafka-transactions.sh abort do the same.
func (p *Producer) EndHanging(ctx context.Context, commit bool) error {
	open, err := p.undecided(ctx)
	if err != nil {
		return err
	}
	ours, ok := open[p.id]
	switch {
	case !ok:
		return fmt.Errorf("no transaction of producer %d hangs in %s/%d; open there is: %s", p.id, p.topic, p.partition, open)
	case ours.ProducerEpoch >= p.epoch:
		return fmt.Errorf("a transaction of %s/%d is under way: its producer's epoch is %d, ours was %d", p.topic, p.partition, ours.ProducerEpoch, p.epoch)
	}
	return p.mark(ctx, ours, commit)
}

// undecided are the transactions that are open in a partition, by producer id.
type undecided map[int64]kadm.DescribedProducer

// String says what kafka-transactions.sh needs to end them.
func (u undecided) String() string {
	if len(u) == 0 {
		return "nothing (any more)"
	}
	said := make([]string, 0, len(u))
	for _, id := range slices.Sorted(maps.Keys(u)) {
		said = append(said, fmt.Sprintf("producer id %d, epoch %d, from offset %d", id, u[id].ProducerEpoch, u[id].CurrentTxnStartOffset))
	}
	return strings.Join(said, "; ")
}

// undecided asks for the transactions that are open in the partition, as its log has them.
func (p *Producer) undecided(ctx context.Context) (undecided, error) {
	described, err := kadm.NewClient(p.client).DescribeProducers(ctx, p.here()) // Closing the admin would close the producer's client.
	if err == nil {
		err = described[p.topic].Partitions[p.partition].Err
	}
	if err != nil {
		return nil, fmt.Errorf("describe the producers of %s/%d: %w", p.topic, p.partition, explain(err, mayRead(p.topic)))
	}
	open := undecided{}
	for id, one := range described[p.topic].Partitions[p.partition].ActiveProducers {
		if one.CurrentTxnStartOffset >= 0 {
			open[id] = one
		}
	}
	return open, nil
}

// mark writes the marker that an open transaction lacks.
func (p *Producer) mark(ctx context.Context, open kadm.DescribedProducer, commit bool) error {
	answers, err := kadm.NewClient(p.client).WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: open.ProducerID, ProducerEpoch: open.ProducerEpoch, Commit: commit, CoordinatorEpoch: open.CoordinatorEpoch, Topics: p.here(),
	})
	if err == nil {
		err = answers[open.ProducerID].Topics[p.topic].Partitions[p.partition].Err
	}
	if err != nil {
		return fmt.Errorf("end the hanging transaction of %s/%d: %w", p.topic, p.partition, explain(err, mayWriteMarkers()))
	}
	return nil
}

func (p *Producer) here() (set kadm.TopicsSet) {
	set.Add(p.topic, p.partition)
	return set
}

// Close closes the connections. It ends no transaction: the next Fence does.
func (p *Producer) Close() { p.client.Close() }
